"""Migrations that are killed anywhere: questions are answered throughout, and a rerun completes."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.migration.migrate import finish, migrate, roll_back
from rag_app.migration.state import find_migration
from rag_app.milvus.copying import contents
from rag_app.milvus.store import connect, open_store
from tests.conftest import FakeEmbedder, make_files
from tests.migration.test_migrate import PAGES, Other
from tests.milvus.sharing import lines, say, start, wait_until

MODULES = (
    "rag_app.ingestion.run",
    "rag_app.app",
    "rag_app.embedding.others",
    "rag_app.migration.migrate",
)


def models() -> dict[str, Any]:
    return {"a/first": FakeEmbedder(model_name="a"), "b/second": Other(model_name="b")}


def use(patch: pytest.MonkeyPatch) -> None:
    made = models()
    for module in MODULES:
        patch.setattr(f"{module}.build_embedder", lambda section: made[section.model])


def work(overrides: dict[str, Any], log: Path) -> None:
    """Migrate, roll back, migrate again and finish, in a process that is killed meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        config = load_config(overrides=overrides)
        say(log, "begun")
        for step in (migrate, roll_back, migrate, finish):
            step(config)
            say(log, step.__name__)


@pytest.fixture
def configs(
    store_overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Config, dict[str, Any]]:
    use(monkeypatch)
    first = {
        **store_overrides,
        "embedding.model": "a/first",
        "embedding.max_length": 256,
        "chunking.size": 60,
        "chunking.overlap": 0,
        "index.type": "FLAT",
        "retrieval.mode": "dense",
    }
    config = load_config(overrides=first)
    ingest(config, [make_files(tmp_path / "pages", dict(PAGES))])
    return config, {**first, "embedding.model": "b/second", "chunking.size": 16}


@contextmanager
def asking(config: Config) -> Iterator[list[frozenset[str]]]:
    """Ask without end, and collect which nodes were found together."""
    found: list[frozenset[str]] = []
    failures: list[str] = []
    stop = threading.Event()
    with RagApp(config) as app:
        retriever = app.retriever(similarity_top_k=4)

        def ask() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    hits = retriever.retrieve(f"subject{number % 8}x{number % 6}")
                    found.append(frozenset(hit.node.node_id for hit in hits))
                except Exception as error:
                    failures.append(repr(error))
                time.sleep(0.01)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []


def ids(config: Config) -> set[str]:
    return {node.node_id for page in open_store(config).pages_of_nodes() for node in page}


@pytest.mark.parametrize("seed", range(50))
def test_a_migration_that_is_killed_answers_and_is_completed(
    seed: int,
    request: pytest.FixtureRequest,
    configs: tuple[Config, dict[str, Any]],
    tmp_path: Path,
) -> None:
    if seed >= 3 and not request.config.getoption("--slow"):
        pytest.skip("the other kills with --slow")
    config, overrides = configs
    wanted, log = load_config(overrides=overrides), tmp_path / "log"
    before = ids(config)
    with asking(config) as found:
        process = start(work, overrides, log)
        wait_until(lambda: lines(log))
        # All four steps take some five seconds on Milvus Lite.
        time.sleep(random.Random(seed).uniform(0, 5))
        process.kill()
        process.join(30)
        told = lines(log)
        if "finish" not in told:
            migration = find_migration(wanted)
            if migration is None or not migration.is_switched:
                migrate(wanted)
            finish(wanted)
        time.sleep(2)
    after = ids(wanted)
    assert found
    assert all(hits and (hits <= before or hits <= after) for hits in found)
    client = connect(config.vector_store)
    name = config.vector_store.collection
    assert [each for each in client.list_collections() if each.startswith(name)] == [
        open_store(wanted).collection_name
    ]
    assert find_migration(wanted) is None
    assert len(contents(open_store(wanted)).documents) == len(PAGES)
