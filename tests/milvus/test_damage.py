"""A Milvus Lite database that was damaged answers as before, or is refused by the file's name."""

import contextlib
import fcntl
import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rag_app.config.sections import Config
from rag_app.errors import RagAppError, VectorStoreError
from rag_app.index.apply import apply_index
from rag_app.ingestion.run import ingest
from rag_app.ingestion.verify import verify
from rag_app.load import load_config
from rag_app.milvus.admin import drop_collection, list_collections
from rag_app.milvus.lite_files import release
from rag_app.milvus.store import find_store, open_store
from rag_app.milvus.stored_documents import list_documents
from rag_app.search.modes import Asked
from tests.conftest import FakeEmbedder, make_files
from tests.ingestion.test_ingestion_changes import page, rows_of

SMALL = {"chunking.size": 24, "chunking.overlap": 0}
QUESTIONS = ["Paragraph 3 of alpha", "thing gamma7", "nothing else at all"]


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path, folder: Path) -> Config:
    made = load_config(overrides={"vector_store.uri": str(here / "a.db"), **SMALL})
    ingest(made, [folder])
    (folder / "b.md").unlink()
    make_files(folder, {"c.md": page("gamma")})
    ingest(made, [folder], prune=True)
    release(made.vector_store.uri)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", {"a.md": page("alpha"), "b.md": page("beta")})


def collection(config: Config) -> Path:
    return Path(config.vector_store.uri) / "collections" / "rag_app"


def answers(config: Config) -> Any:
    """All that can be asked: the rows, the documents, and what is found in each mode."""
    store = find_store(config)
    if store is None:
        return None
    fake = FakeEmbedder()
    found = []
    for mode in ("dense", "text", "hybrid"):
        section = config.retrieval.model_copy(update={"mode": mode, "similarity_top_k": 4})
        hits = store.find(Asked(QUESTIONS, fake.embed_queries(QUESTIONS)), section)
        found.append([[(hit.node_id, round(hit.score or 0, 4)) for hit in each] for each in hits])
    return rows_of(config), list_documents(config), found


def try_answers(config: Config) -> tuple[Any, RagAppError | None]:
    try:
        return answers(config), None
    except RagAppError as error:
        return None, error


def damage(file: Path, how: str, dice: random.Random) -> None:
    content = file.read_bytes()
    if how == "deleted":
        file.unlink()
    elif how == "emptied":
        file.write_bytes(b"")
    elif how == "truncated":
        file.write_bytes(content[: dice.randrange(len(content))] if content else b"")
    else:
        flipped = bytearray(content)
        for place in dice.sample(range(len(content)), k=min(3, len(content))):
            flipped[place] ^= dice.randrange(1, 256)
        file.write_bytes(bytes(flipped))


def test_every_file_damaged_in_every_way(config: Config, request: pytest.FixtureRequest) -> None:
    """``--slow`` flips bytes in many places of each file."""
    many = 60 if request.config.getoption("--slow") else 3
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    database = Path(config.vector_store.uri)
    wanted = answers(config)
    release(config.vector_store.uri)
    whole = database.with_name("whole")
    shutil.copytree(database, whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert {"manifest.json", "manifest.json.prev", "schema.json"} <= {path.name for path in files}
    assert {".parquet", ".idx"} <= {path.suffix for path in files}
    for name in files:
        for how in ["deleted", "emptied", "truncated", *["flipped"] * many]:
            shutil.rmtree(database)
            shutil.copytree(whole, database)
            damage(database / name, how, dice)
            found, error = try_answers(config)
            release(config.vector_store.uri)
            if error is None:
                assert found == wanted, (name, how)
            else:
                assert name.name in error.message, (name, how, error)
                assert error.remedy


@pytest.mark.parametrize("name", ["manifest.json", "schema.json"])
def test_a_damaged_collection_is_refused_by_every_command_and_kept_as_it_is(
    name: str, config: Config, run: Callable[..., Result]
) -> None:
    file = collection(config) / name
    whole = file.read_bytes()
    wanted = answers(config)
    release(config.vector_store.uri)
    assert "damaged" not in run("collections", "list", *settings(config)).stdout
    release(config.vector_store.uri)
    for broken in (whole[:40], b"", None):
        file.write_bytes(broken) if broken is not None else file.unlink()
        for command in ("documents", "verify", "verify --repair", "ingest .", "index show"):
            result = run(*command.split(), *settings(config))
            assert result.exit_code == 1, (command, result.output)
            assert f"rag_app' in {config.vector_store.uri} is damaged" in result.stderr
            assert name in result.stderr
            assert "rag-app collections drop rag_app" in result.stderr
        assert f"damaged: {name}" in run("collections", *settings(config)).stdout
        release(config.vector_store.uri)
        file.write_bytes(whole)
    assert answers(config) == wanted


def settings(config: Config) -> list[str]:
    assignments = {"vector_store.uri": config.vector_store.uri, **SMALL}
    return [part for key, value in assignments.items() for part in ("--set", f"{key}={value}")]


def test_a_damaged_collection_can_be_dropped_and_made_anew(config: Config, folder: Path) -> None:
    wanted = answers(config)
    release(config.vector_store.uri)
    (collection(config) / "manifest.json").write_text("{")
    (info,) = list_collections(config)
    assert info.damage.startswith("manifest.json cannot be read")
    assert info.made_by
    drop_collection(config, "rag_app")
    assert list_collections(config) == []
    ingest(config, [folder])
    assert answers(config)[:2] == wanted[:2]


def test_a_file_that_says_nothing_wrong_but_is_older_is_found(
    config: Config, folder: Path, here: Path
) -> None:
    """Someone put one file of a backup back."""
    manifest = collection(config) / "manifest.json"
    before = rows_of(config)
    wanted = len(before)
    release(config.vector_store.uri)
    shutil.copytree(collection(config), here / "backup")
    make_files(folder, {"d.md": page("delta")})
    ingest(config, [folder])
    release(config.vector_store.uri)
    lost = json.loads((collection(config) / "schema.json").read_text())
    shutil.rmtree(collection(config))
    shutil.copytree(here / "backup", collection(config))
    (collection(config) / "schema.json").write_text(json.dumps(lost))
    assert manifest.exists()
    with pytest.raises(VectorStoreError, match=r"lost rows: .* of 3 documents") as caught:
        open_store(config)
    assert "rag-app verify --repair" in caught.value.remedy
    (problem,) = verify(config).problems
    assert (problem.kind, problem.path, problem.repaired) == ("lost", "rag_app", False)
    missing = [id_ for id_, (path, _, _) in before.items() if path == "a.md"][:2]
    open_store(config, counted=False).delete_ids(missing)
    repaired = verify(config, repair=True).problems
    assert [problem.kind for problem in repaired] == ["incomplete", "lost"], "none hides the other"
    assert open_store(config).count() == wanted
    ingest(config, [folder])
    assert len(list_documents(config)) == 3
    assert verify(config).ok


def test_rows_that_another_program_writes_are_no_loss(config: Config) -> None:
    store = open_store(config)
    store.delete_ids(list(rows_of(config))[:3])
    release(config.vector_store.uri)
    assert open_store(config).count() == store_count(config)


def store_count(config: Config) -> int:
    return len(rows_of(config))


def test_files_without_checksums_are_read(config: Config, here: Path) -> None:
    """Collections of an earlier version, or that a bare Milvus Lite wrote."""
    wanted = answers(config)
    release(config.vector_store.uri)
    for name in ("manifest.json", "manifest.json.prev", "schema.json"):
        file = collection(config) / name
        said = json.loads(file.read_text())
        file.write_text(json.dumps({key: said[key] for key in said if key != "rag_app_crc32"}))
    for file in collection(config).rglob("*.idx"):
        file.write_bytes(file.read_bytes()[:-12])
    assert answers(config) == wanted
    release(config.vector_store.uri)
    (file,) = collection(config).rglob("*.idx")
    assert file.read_bytes()[-12:-4] == b"rag_app\0"


def test_shared_files_of_a_database_are_looked_at_too(config: Config) -> None:
    (Path(config.vector_store.uri) / "aliases.json").write_text("{")
    with pytest.raises(VectorStoreError, match=r"a\.db is damaged: aliases\.json cannot be read"):
        open_store(config)
    (Path(config.vector_store.uri) / "aliases.json").write_text("{}")
    assert open_store(config).count() > 0


def test_the_folder_of_a_collection_that_was_never_made_is_no_obstacle(
    fake_embedder: FakeEmbedder, here: Path, folder: Path
) -> None:
    config = load_config(overrides={"vector_store.uri": str(here / "b.db"), **SMALL})
    collection(config).mkdir(parents=True)
    assert len(ingest(config, [folder]).new) == 2


def test_an_index_that_finds_too_little_is_found_and_built_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import faiss
    import numpy as np

    from rag_app.milvus import lite_seals

    assert (verify(config).index_recall or 0) > 0.95
    release(config.vector_store.uri)
    (file,) = collection(config).rglob("*.idx")
    index = faiss.read_index(str(file))
    random_vectors = np.random.default_rng(0).normal(size=(index.ntotal, index.d))
    other = faiss.IndexHNSWFlat(index.d, 16, faiss.METRIC_INNER_PRODUCT)
    other.add(random_vectors.astype("float32"))
    faiss.write_index(other, str(file))
    with monkeypatch.context() as patch:
        patch.setattr(lite_seals, "is_sealed", lambda _file: True)
        report = verify(config)
        assert [(problem.kind, problem.repaired) for problem in report.problems] == [
            ("index", False)
        ]
        report = verify(config, repair=True)
    assert [(problem.kind, problem.repaired) for problem in report.problems] == [("index", True)]
    assert verify(config).ok


# --- the lock ------------------------------------------------------------------------------------


@pytest.fixture
def beaten(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Another process takes the lock in the moment in which this one opens, for half a second."""
    from milvus_lite.db import MilvusLite

    acquire = MilvusLite._acquire_lock
    times: list[float] = []

    def late(self: Any) -> None:
        if not times:
            lock = Path(self._lock_path).open("w")  # noqa: SIM115
            fcntl.flock(lock, fcntl.LOCK_EX)
            threading.Timer(0.5, lock.close).start()
        times.append(time.monotonic())
        acquire(self)

    monkeypatch.setattr(MilvusLite, "_acquire_lock", late)
    return times


def test_who_loses_the_lock_waits_again(config: Config, beaten: list[float]) -> None:
    section = config.vector_store.model_copy(update={"lock_timeout": 30.0})
    assert open_store(config.model_copy(update={"vector_store": section})).count() > 0
    assert len(beaten) > 1


def test_who_loses_the_lock_and_does_not_wait_is_told_so(
    config: Config, beaten: list[float]
) -> None:
    with pytest.raises(VectorStoreError, match="is in use by another process"):
        open_store(config)


@pytest.fixture
def read_only(config: Config, tmp_path: Path) -> Iterator[Config]:
    place = tmp_path / "read-only"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        shutil.copytree(config.vector_store.uri, place / "a.db")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        uri = str(place / "a.db")
        section = config.vector_store.model_copy(update={"uri": uri})
        yield config.model_copy(update={"vector_store": section})
        release(uri)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(config: Config, tmp_path: Path) -> Iterator[Config]:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        shutil.copytree(config.vector_store.uri, place / "a.db")
        uri = str(place / "a.db")
        section = config.vector_store.model_copy(update={"uri": uri})
        yield config.model_copy(update={"vector_store": section})
        release(uri)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


# Milvus Lite leaves the file open whose write failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_while_an_index_is_built_is_named(small_disk: Config) -> None:
    wanted = rows_of(small_disk)
    hnsw = small_disk.index.model_copy(update={"type": "HNSW", "params": {"M": 32}})
    changed = small_disk.model_copy(update={"index": hnsw})
    filler = Path(small_disk.vector_store.uri).with_name("filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(VectorStoreError, match="No space left on device") as caught:
        apply_index(changed)
    assert "make room" in caught.value.remedy
    filler.unlink()
    release(small_disk.vector_store.uri)
    assert open_store(changed).count() == len(wanted)
    assert apply_index(changed).after["type"] == "HNSW"
    assert rows_of(changed) == wanted


def test_storage_that_cannot_be_written_to_is_named(read_only: Config) -> None:
    with pytest.raises(VectorStoreError, match="cannot be opened: Read-only file system") as caught:
        open_store(read_only)
    assert read_only.vector_store.uri in caught.value.message
    assert "writable" in caught.value.remedy
