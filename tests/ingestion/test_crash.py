"""Processes that are killed, interrupted or shut out, disks that are full, servers that go away.

``--slow`` runs 50 kills instead of a few, and more random histories.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.errors import VectorStoreError
from rag_app.index.apply import apply_index
from rag_app.ingestion import pipeline
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.lite_files import release
from rag_app.milvus.store import find_store
from tests.conftest import FakeEmbedder, make_files
from tests.ingestion.test_ingestion_changes import page, rows_of
from tests.milvus_server import MilvusServer

DRIVER = """
import sys, time
from pathlib import Path
from rag_app.ingestion import pipeline
from rag_app.milvus.collection import CollectionStore

pipeline.WINDOW = int(sys.argv.pop(1))
marker, add = Path(sys.argv.pop(1)), CollectionStore.add

def marked(self, nodes, **kwargs):
    marker.touch()
    return add(self, nodes, **kwargs)

CollectionStore.add = marked
from rag_app.cli import main
main()
"""
"""The real command, in small windows; it touches a file when the first window is written."""

SMALL = {"chunking.size": 24, "chunking.overlap": 0}


def start(marker: Path, *arguments: str, window: int = 16) -> subprocess.Popen[str]:
    marker.unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(window), str(marker), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(marker: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not marker.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def settings_of(database: Path) -> list[str]:
    assignments = {"vector_store.uri": str(database), **SMALL}
    return [part for key, value in assignments.items() for part in ("--set", f"{key}={value}")]


def vectors_in(config: Config) -> dict[str, tuple[str, list[float]]]:
    store = find_store(config)
    if store is None:
        return {}
    fields = ["id", "text", "embedding"]
    return {row["id"]: (row["text"], row["embedding"]) for row in store._rows('id != ""', fields)}


def texts_by_document(config: Config) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path, _, text in rows_of(config).values():
        found.setdefault(path, set()).add(text)
    return found


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {id_: text for id_, (text, _) in found.items()} == {
        id_: text for id_, (text, _) in wanted.items()
    }
    for id_, (_, vector) in found.items():
        assert np.allclose(vector, wanted[id_][1], atol=1e-4)


def test_killed_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, here: Path, embedder: Embedder, request: pytest.FixtureRequest
) -> None:
    kills = 50 if request.config.getoption("--slow") else 3
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(f"n{i}", 8) for i in range(12)})
    base, work, fresh = here / "base.db", here / "work.db", here / "fresh.db"
    old = load_config(overrides={"vector_store.uri": str(base), **SMALL})
    ingest(old, [folder], make_embedder=lambda: embedder)
    before = texts_by_document(old)
    release(str(base))

    for i in range(6):
        (folder / f"{i}.md").write_text(page(f"n{i}", 8).replace("nothing else", "something new"))
    (folder / "10.md").rename(folder / "renamed.md")
    (folder / "11.md").unlink()
    make_files(folder, {f"new{i}.md": page(f"new{i}", 20) for i in range(6)})
    undisturbed = load_config(overrides={"vector_store.uri": str(fresh), **SMALL})
    ingest(undisturbed, [folder], make_embedder=lambda: embedder)
    wanted, after = vectors_in(undisturbed), texts_by_document(undisturbed)

    marker = here / "marker"
    config = load_config(overrides={"vector_store.uri": str(work), **SMALL})
    span = 1.0
    for number in range(kills + 1):
        release(str(work))
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base, work)
        process = start(marker, "ingest", "--prune", str(folder), *settings_of(work))
        wait_for(marker, process)
        if number == 0:  # undisturbed: how long is there something to kill?
            began = time.monotonic()
            assert process.wait(120) == 0
            span = time.monotonic() - began
        else:
            time.sleep(dice.uniform(0, span))
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        process.communicate()
        between = texts_by_document(config)
        for path in before.keys() & after.keys():
            assert between[path] >= before[path] or between[path] >= after[path], path
        assert "10.md" in between or "renamed.md" in between
        report = ingest(config, [folder], prune=True, make_embedder=lambda: embedder)
        assert report.nodes_embedded <= len(wanted)
        assert_same(vectors_in(config), wanted)


def test_interrupt_finishes_the_window_reports_and_exits_130(tmp_path: Path, here: Path) -> None:
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(f"n{i}", 30) for i in range(20)})
    marker, database = here / "marker", here / "int.db"
    process = start(marker, "ingest", str(folder), *settings_of(database), "--json", window=8)
    wait_for(marker, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the next rag-app ingest goes on from here" in errors
    assert '"interrupted": true' in output
    config = load_config(overrides={"vector_store.uri": str(database), **SMALL})
    assert len(rows_of(config)) > 0


def test_second_writer_is_told_who_writes_and_can_wait(tmp_path: Path, here: Path) -> None:
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(f"n{i}", 30) for i in range(8)})
    marker, database = here / "marker", here / "held.db"
    first = start(marker, "ingest", str(folder), *settings_of(database), window=8)
    wait_for(marker, first)
    os.kill(first.pid, signal.SIGSTOP)
    config = load_config(overrides={"vector_store.uri": str(database), **SMALL})
    try:
        with pytest.raises(VectorStoreError) as failure:
            apply_index(config)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert f"pid {first.pid} (" in failure.value.message
    assert "since 20" in failure.value.message
    assert "--wait" in failure.value.remedy
    report = ingest(config, [folder])
    assert first.wait(60) == 0
    first.communicate()
    assert len(report.unchanged) == 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    release(str(folder / "milvus.db"))
    subprocess.run(["umount", "-l", str(folder)], check=True)


# Milvus Lite leaves the file open whose write failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_is_an_error_and_the_next_run_completes(
    tmp_path: Path,
    small_disk: Path,
    fake_embedder: FakeEmbedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 50)
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(f"n{i}", 40) for i in range(40)})
    config = load_config(overrides={"vector_store.uri": str(small_disk / "milvus.db"), **SMALL})
    with pytest.raises(Exception, match=r"(?i)space|disk|failed"):
        ingest(config, [folder])
    release(config.vector_store.uri)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    report = ingest(config, [folder])
    assert report.rows == len(rows_of(config))
    assert len({path for path, _, _ in rows_of(config).values()}) == 40
    assert ingest(config, [folder]).nodes_written == 0


def test_server_that_dies_in_the_middle_and_comes_back(
    tmp_path: Path,
    milvus_server: MilvusServer,
    fake_embedder: FakeEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    here: Path,
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 40)
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(f"n{i}", 20) for i in range(20)})
    overrides = {
        "vector_store.uri": milvus_server.uri,
        "vector_store.collection": "dies",
        "vector_store.timeout": 10,
        **SMALL,
    }
    config = load_config(overrides=overrides)
    add, calls = CollectionStore.add, 0

    def kill_at_third(self: CollectionStore, nodes: Any, **kwargs: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 3:
            milvus_server.kill()
        return add(self, nodes, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(CollectionStore, "add", kill_at_third)
        started = time.monotonic()
        with pytest.raises(VectorStoreError, match=r"Milvus"):
            ingest(config, [folder])
        assert time.monotonic() - started < 60
    milvus_server.start()
    patient = load_config(overrides={**overrides, "vector_store.timeout": 60})
    report = ingest(patient, [folder])
    assert len(report.new) + len(report.changed) + len(report.unchanged) == 20
    assert report.nodes_embedded < report.rows
    fresh = load_config(overrides={"vector_store.uri": str(here / "fresh.db"), **SMALL})
    ingest(fresh, [folder])
    assert rows_of(patient) == rows_of(fresh)


class _Killed(BaseException):
    """Stands for the end of the process, between two calls to Milvus."""


ACTION = st.tuples(
    st.sampled_from(["write", "write", "append", "delete", "rename", "copy"]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 30),
)
HISTORY = st.lists(
    st.tuples(st.lists(ACTION, max_size=4), st.one_of(st.none(), st.integers(0, 6))),
    min_size=1,
    max_size=5,
)


def act(folder: Path, kind: str, first: int, second: int, seed: int) -> None:
    file, other = folder / f"{first}.md", folder / f"sub{second % 2}" / f"{second}.md"
    other.parent.mkdir(exist_ok=True)
    if kind == "write":
        file.write_text(page(f"w{seed}", 1 + seed % 7))
    elif not file.exists():
        return
    elif kind == "append":
        file.write_text(f"{file.read_text()}\n\nAppended thought number {seed}, and a few words.")
    elif kind == "delete":
        file.unlink()
    elif kind == "rename":
        file.rename(other)
    else:
        shutil.copy(file, other)


@given(history=HISTORY)
@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_after_any_history_with_kills_the_collection_is_the_folder(
    history: list[tuple[list[tuple[str, int, int, int]], int | None]],
    tmp_path_factory: pytest.TempPathFactory,
    fake_embedder: FakeEmbedder,
) -> None:
    place = tmp_path_factory.mktemp("history")
    folder = make_files(place / "docs", {"keep.md": page("kept", 2), "0.md": page("zero", 5)})
    config = load_config(overrides={"vector_store.uri": str(place / "a.db"), **SMALL})
    for actions, killed_at in history:
        for action in actions:
            act(folder, *action)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "WINDOW", 4)
            _kill_at(patch, killed_at)
            with contextlib.suppress(_Killed):
                ingest(config, [folder], prune=True)
    ingest(config, [folder], prune=True)
    fresh = load_config(overrides={"vector_store.uri": str(place / "b.db"), **SMALL})
    ingest(fresh, [folder])
    assert rows_of(config) == rows_of(fresh)
    for database in ("a.db", "b.db"):
        release(str(place / database))


def _kill_at(patch: pytest.MonkeyPatch, number: int | None) -> None:
    """End the ingest before the given call that writes or deletes."""
    count, lock = 0, threading.Lock()
    for name in ("add", "delete_ids", "delete"):
        real = getattr(CollectionStore, name)

        def deadly(self: CollectionStore, *args: Any, _real: Any = real, **kwargs: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if number is not None and count > number:
                    raise _Killed
            return _real(self, *args, **kwargs)

        patch.setattr(CollectionStore, name, deadly)
