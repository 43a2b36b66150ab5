"""Several processes of one user on one Milvus Lite database."""

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from click.testing import Result
from llama_index.core.vector_stores.types import VectorStoreQuery
from milvus_lite.db import MilvusLite

from rag_app.errors import VectorStoreError
from rag_app.milvus import lite_shared
from rag_app.milvus.store import create_store, open_store
from rag_app.milvus.writing import writing
from tests.conftest import FakeEmbedder, make_files
from tests.milvus import sharing
from tests.milvus.sharing import (
    KEPT,
    batch,
    config_of,
    holder_of,
    ids,
    lines,
    make,
    rows,
    start,
    wait_until,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")


@pytest.fixture
def database(here: Path) -> Path:
    path = here / "shared.db"
    make(path)
    return path


def test_what_one_process_writes_another_one_finds(database: Path, here: Path) -> None:
    store = open_store(config_of(database))
    assert holder_of(database) == os.getpid()
    log, stop = here / "log", here / "stop"
    writer = start(sharing.write, database, log, stop)
    wait_until(lambda: len(lines(log)) > 3)
    stop.touch()
    writer.join(60)
    assert writer.exitcode == 0
    last = int(lines(log)[-1].split()[1])
    kept = {id_ for number in range(1, last + 1) for id_ in ids(batch(number)[:KEPT])}
    assert kept <= set(rows(store))
    assert holder_of(database) == os.getpid()


def test_who_is_attached_goes_on_when_the_holder_ends(database: Path, here: Path) -> None:
    log, stop = here / "log", here / "stop"
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: lines(log))
    store = open_store(config_of(database))
    assert holder_of(database) == holder.pid
    stop.touch()
    holder.join(60)
    assert lines(log) == [f"open {store.count()}", "closed"]
    assert holder_of(database) == os.getpid()
    assert len(rows(store)) == sharing.ROWS


def test_a_killed_holder_is_followed_while_others_read_and_one_writes(
    database: Path, here: Path, request: pytest.FixtureRequest
) -> None:
    kills = 50 if request.config.getoption("--slow") else 3
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    written, stop = here / "written", here / "stop"
    written.write_text("written 0\n")
    logs = iter(here / f"reader{number}" for number in range(1000))

    def writes_on() -> None:
        count = len(lines(written)) + 1
        wait_until(lambda: len(lines(written)) > count)

    def reader() -> BaseProcess:
        log = next(logs)
        process = start(sharing.read, database, log, stop, written)
        wait_until(lambda: lines(log) or not process.is_alive())
        return process

    idle = start(sharing.hold, database, here / "idle", stop)
    wait_until(lambda: lines(here / "idle"))
    writer = start(sharing.write, database, written, stop)
    readers = [reader() for _ in range(3)]
    pids = []
    for _ in range(kills):
        time.sleep(dice.uniform(0, 1))
        pids.append(holder_of(database))
        sharing.kill(pids[-1])
        for process in (idle, writer, *readers):
            if process.pid == pids[-1]:
                process.join(30)
        wait_until(lambda: holder_of(database) != pids[-1])
        if writer.exitcode is not None:
            writer = start(sharing.write, database, written, stop)
        readers = [each if each.exitcode is None else reader() for each in readers]
        writes_on()
    stop.touch()
    for process in (writer, *readers):
        process.join(60)
        assert process.exitcode == 0, process
    assert len(set(pids)) == kills

    found = rows(open_store(config_of(database)))
    last = int(lines(written)[-1].split()[1])
    expected = {id_ for number in range(1, last + 1) for id_ in ids(batch(number)[:KEPT])}
    assert len(found) == len(set(found))
    assert set(found) == expected | ids(batch(0))


@pytest.mark.parametrize(
    "die", [sharing.die_before_log_is_deleted, sharing.die_before_manifest_is_replaced]
)
def test_killed_in_the_middle_of_a_flush_no_row_is_lost_or_there_twice(
    database: Path, die: Callable[[Path], None]
) -> None:
    process = start(die, database)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = open_store(config_of(database))
    assert len(rows(store)) == store.count() == 2 * sharing.ROWS


def test_close_gives_the_database_back(database: Path) -> None:
    open_store(config_of(database))
    lite_shared.release(database)
    MilvusLite(str(database)).close()


def test_a_copy_of_a_database_in_use_is_another_database(database: Path, here: Path) -> None:
    open_store(config_of(database))
    copy = here / "copy.db"
    shutil.copytree(database, copy)
    copied = open_store(config_of(copy))
    copied.add(batch(1))
    assert len(rows(copied)) == 2 * sharing.ROWS
    assert len(rows(open_store(config_of(database)))) == sharing.ROWS


def test_a_holder_that_hangs_is_named(database: Path, here: Path) -> None:
    log, stop = here / "log", here / "stop"
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: lines(log))
    assert holder.pid
    config = config_of(database, **{"vector_store.timeout": 2})
    store = open_store(config)
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        with pytest.raises(VectorStoreError, match=f"pid {holder.pid} .*does not answer") as caught:
            store.count()
        assert "kill -CONT" in caught.value.remedy
        lite_shared.release(database)
        with pytest.raises(VectorStoreError, match=f"pid {holder.pid} .*does not answer"):
            open_store(config)
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    assert open_store(config).count() == sharing.ROWS
    stop.touch()
    holder.join(60)


def listening() -> set[str]:
    """Return the TCP sockets that this process listens on."""
    own = {str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    tables = [Path("/proc/self/net", table).read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"} & own


def test_nobody_else_gets_in(database: Path) -> None:
    before = listening()
    open_store(config_of(database))
    place = Path(lite_shared._read(database / lite_shared.HOLDER)["socket"])
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert (database / lite_shared.HOLDER).stat().st_mode & 0o777 == 0o600
    assert listening() <= before
    if os.geteuid() == 0:
        knock = (
            "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
            "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        )
        tried = subprocess.run([sys.executable, "-c", knock, place], capture_output=True)
        assert b"PermissionError" in tried.stderr


def test_a_socket_of_another_user_is_not_used(
    database: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, stop = here / "log", here / "stop"
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: lines(log))
    place = Path(lite_shared._read(database / lite_shared.HOLDER)["socket"])
    me = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: me + 1)
        with pytest.raises(VectorStoreError, match=f"by another user .uid {me}."):
            open_store(config_of(database))
    place.parent.chmod(0o755)
    with pytest.raises(VectorStoreError, match="by another user"):
        open_store(config_of(database))
    place.parent.chmod(0o700)
    assert open_store(config_of(database)).count() == sharing.ROWS
    stop.touch()
    holder.join(60)


def test_a_forked_process_is_told_that_it_cannot(database: Path) -> None:
    store = open_store(config_of(database))
    reading, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = []
            for use in (store.count, lambda: open_store(config_of(database))):
                try:
                    use()
                except VectorStoreError as error:
                    told.append(str(error))
            os.write(writing_end, "\n".join(told).encode())
        finally:
            os._exit(0)
    os.close(writing_end)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    assert answer.count("forked process") == 2
    assert "spawn" in answer
    assert store.count() == sharing.ROWS


def test_a_forked_child_does_not_keep_the_database(database: Path, here: Path) -> None:
    log = here / "log"
    parent = start(sharing.fork, database, log)
    child = int(wait_until(lambda: lines(log))[0])
    parent.kill()
    parent.join(60)
    try:
        assert open_store(config_of(database)).count() == sharing.ROWS
        assert holder_of(database) == os.getpid()
    finally:
        sharing.kill(child)


def test_writers_wait_for_each_other(database: Path) -> None:
    section = config_of(database).vector_store
    order: list[str] = []

    def second() -> None:
        with writing(section, patience=30):
            order.append("second")

    with writing(section), writing(section):  # the same thread goes on
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.2)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]


def test_who_does_not_wait_is_told_who_writes(database: Path, here: Path) -> None:
    log, stop = here / "log", here / "stop"
    other = start(sharing.be_writing, database, log, stop)
    wait_until(lambda: lines(log))
    section = config_of(database).vector_store
    with (
        pytest.raises(VectorStoreError, match=f"written to by pid {other.pid}") as caught,
        writing(section),
    ):
        pass
    assert "--wait" in caught.value.remedy
    assert open_store(config_of(database)).count() == sharing.ROWS
    stop.touch()
    other.join(60)


def test_nobody_waits_who_is_told_to_stop(database: Path) -> None:
    section = config_of(database).vector_store
    stop = threading.Event()
    refused: list[VectorStoreError] = []

    def wait() -> None:
        try:
            with writing(section, patience=math.inf, stop=stop):
                pass
        except VectorStoreError as error:
            refused.append(error)

    with writing(section):
        other = threading.Thread(target=wait)
        other.start()
        time.sleep(0.2)
        assert not refused
        stop.set()
        other.join(30)
        assert len(refused) == 1


def test_a_database_that_this_process_opened_otherwise_is_used(database: Path, here: Path) -> None:
    log = here / "log"
    process = start(sharing.open_alone, database, log)
    process.join(60)
    assert lines(log) == [f"{2 * sharing.ROWS} {2 * sharing.ROWS}"]


def test_searches_wait_while_another_process_changes_the_index(database: Path, here: Path) -> None:
    store = open_store(config_of(database))
    wanted = batch(0)[0]
    log, stop = here / "log", here / "stop"
    changing = start(sharing.change_index, database, log, stop)
    searches = 0
    while len(lines(log)) < 4:
        assert changing.is_alive() or len(lines(log)) >= 4
        query = VectorStoreQuery(query_embedding=wanted.embedding, similarity_top_k=1)
        assert store.query(query).ids == [wanted.node_id]
        searches += 1
    stop.touch()
    changing.join(60)
    assert changing.exitcode == 0
    assert all("FLAT" in line for line in lines(log)[:4])
    assert searches > 4


def test_who_is_attached_is_told_of_damage(database: Path, here: Path) -> None:
    other = config_of(database, **{"vector_store.collection": "other"})
    create_store(other, sharing.DIMENSION).settle(0)
    lite_shared.release(database)
    log, stop = here / "log", here / "stop"
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: lines(log))
    (database / "collections" / "other" / "schema.json").write_text("{")
    with pytest.raises(VectorStoreError, match=r"'other' .* is damaged.*schema\.json"):
        open_store(other)
    assert open_store(config_of(database)).count() == sharing.ROWS
    stop.touch()
    holder.join(60)
    assert holder.exitcode == 0


def test_a_holder_on_another_machine_is_named(database: Path, here: Path) -> None:
    log, stop = here / "log", here / "stop"
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: lines(log))
    file = database / lite_shared.HOLDER
    told = json.loads(file.read_text())
    file.write_text(
        json.dumps({**told, "host": "elsewhere", "socket": str(here / "gone" / "lite")})
    )
    with pytest.raises(VectorStoreError, match="on elsewhere, another machine"):
        open_store(config_of(database))
    stop.touch()
    holder.join(60)


def test_what_a_dead_holder_left_misleads_nobody(database: Path) -> None:
    file = database / lite_shared.HOLDER
    told = {"socket": "/none", "pid": os.getppid(), "host": socket.gethostname()}
    file.write_text(json.dumps({**told, "file": file.stat().st_ino}))
    assert open_store(config_of(database)).count() == sharing.ROWS
    assert holder_of(database) == os.getpid()


WATCH = """
from tests.conftest import FakeEmbedder
from rag_app.ingestion import watch
watch.build_embedder = lambda _section: FakeEmbedder(model_name="fake")
from rag_app.cli import main
main()
"""


def test_commands_work_while_watch_runs_and_after_it_ended(
    docs: Path, fake_embedder: FakeEmbedder, run: Callable[..., Result], tmp_path: Path
) -> None:
    sizes = ["--set", "chunking.size=40", "--set", "chunking.overlap=0"]

    def found(question: str) -> str:
        result = run("retrieve", *sizes, "--set", "retrieval.mode=text", question)
        assert result.exit_code == 0, result.output
        return result.stdout

    with subprocess.Popen(
        [sys.executable, "-c", WATCH, "watch", *sizes, docs], stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr
        for line in watching.stderr:
            if line.startswith("watching"):
                break
        assert "yeast" in found("bread")
        assert f"served by pid {watching.pid} (" in run("doctor", *sizes).output
        (docs / "tea.md").write_text("Tea wants water that boils, and four minutes.\n")
        wait_until(lambda: "four minutes" in found("tea"))
        more = make_files(tmp_path / "more", {"ink.md": "Ink is made of soot and gum.\n"})
        result = run("ingest", *sizes, str(more))
        assert result.exit_code == 0, result.output
        assert "soot" in found("ink")
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    assert "soot" in found("ink")
    assert "yeast" in found("bread")
