"""`watch` ingests after each burst of changes, and outlives what fails."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rag_app.config.sections import Config
from rag_app.errors import InputError, VectorStoreError
from rag_app.ingestion import run as ingestion
from rag_app.ingestion import watch as watching
from rag_app.ingestion.watch import watch
from rag_app.load import load_config
from rag_app.schema import IngestReport
from tests.conftest import FakeEmbedder, make_files
from tests.ingestion.test_ingestion_changes import page, rows_of


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(watching, "build_embedder", lambda _: fake_embedder)
    monkeypatch.setattr(watching, "SETTLE_MS", 300)
    return load_config(
        overrides={
            "vector_store.uri": str(here / "watch.db"),
            "chunking.size": 24,
            "chunking.overlap": 0,
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", {"a.md": page("alpha")})


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def watching_of(config: Config, folder: Path) -> Iterator[tuple[list[IngestReport], list[str]]]:
    stop = threading.Event()
    reports: list[IngestReport] = []
    said: list[str] = []

    def work() -> None:
        for report in watch(config, [folder], prune=True, stop=stop, say=said.append):
            reports.append(report)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: any("watching" in line for line in said))
        yield reports, said
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def running(config: Config, folder: Path) -> Iterator[tuple[list[IngestReport], list[str]]]:
    with watching_of(config, folder) as told:
        yield told


def test_what_changes_during_the_first_ingest_is_ingested_next(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = ingestion.ingest

    def write_meanwhile(*args: Any, **kwargs: Any) -> IngestReport:
        report = ingest(*args, **kwargs)
        if "late.md" not in rows_paths(config):
            (folder / "late.md").write_text(page("late", 2))
        return report

    monkeypatch.setattr(watching, "ingest", write_meanwhile)
    with watching_of(config, folder) as (reports, _):
        wait_until(lambda: len(reports) > 1)
        assert (reports[0].new, reports[1].new) == (("a.md",), ("late.md",))


def test_emptied_folder_is_not_pruned_and_watched_further(
    running: tuple[list[IngestReport], list[str]], folder: Path, config: Config
) -> None:
    reports, said = running
    (folder / "a.md").unlink()
    wait_until(lambda: any("pruning deletes 1 of the 1 documents" in line for line in said))
    (folder / "b.md").write_text(page("beta", 2))
    wait_until(lambda: "b.md" in rows_paths(config))
    assert "a.md" in rows_paths(config)
    wait_until(lambda: bool(reports[-1].removed or reports[-1].gone))


def test_database_in_the_folder_wakes_nobody(
    fake_embedder: FakeEmbedder, folder: Path, config: Config
) -> None:
    inside = config.model_copy(
        update={
            "vector_store": config.vector_store.model_copy(update={"uri": str(folder / "in.db")})
        }
    )
    with watching_of(inside, folder) as (reports, _):
        time.sleep(2)  # several times as long as a burst takes to settle
        assert len(reports) == 1
        (folder / "b.md").write_text(page("beta", 2))
        wait_until(lambda: len(reports) == 2)


@pytest.mark.parametrize("path", ["", "~nosuchuser/x", "x" * 300, "nowhere"])
def test_path_that_cannot_be_is_said_at_once(config: Config, path: str) -> None:
    with pytest.raises(InputError):
        next(watch(config, [path]))


def test_burst_is_one_ingest_and_deletions_are_followed(
    running: tuple[list[IngestReport], list[str]], folder: Path, config: Config
) -> None:
    reports, _ = running
    assert reports[0].new == ("a.md",)
    for number in range(5):
        (folder / f"burst{number}.md").write_text(page(f"burst{number}", 2))
    wait_until(lambda: len(reports) > 1 and len(rows_paths(config)) == 6)
    assert len(reports) <= 3
    (folder / "a.md").unlink()
    wait_until(lambda: "a.md" not in rows_paths(config))


def test_one_bad_file_does_not_end_it(
    running: tuple[list[IngestReport], list[str]], folder: Path, config: Config
) -> None:
    reports, _ = running
    (folder / "bad.md").write_bytes(b"\xff\xfe\xff")
    wait_until(lambda: any(report.skipped for report in reports))
    (folder / "good.md").write_text(page("good", 2))
    wait_until(lambda: "good.md" in rows_paths(config))


def test_failing_service_does_not_end_it(
    running: tuple[list[IngestReport], list[str]],
    folder: Path,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, said = running
    ingest = ingestion.ingest

    def fail(*_: object, **__: object) -> IngestReport:
        raise VectorStoreError("the Milvus server cannot be reached", "start it")

    monkeypatch.setattr(watching, "ingest", fail)
    (folder / "b.md").write_text(page("beta", 2))
    wait_until(lambda: any("the next change tries again" in line for line in said))
    monkeypatch.setattr(watching, "ingest", ingest)
    (folder / "c.md").write_text(page("gamma", 2))
    wait_until(lambda: {"b.md", "c.md"} <= rows_paths(config))


def rows_paths(config: Config) -> set[str]:
    return {path for path, _, _ in rows_of(config).values()}
