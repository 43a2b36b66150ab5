"""`watch` ingests after each burst of changes, and outlives what fails."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture
def running(config: Config, folder: Path) -> Iterator[tuple[list[IngestReport], list[str]]]:
    stop = threading.Event()
    reports: list[IngestReport] = []
    said: list[str] = []

    def work() -> None:
        for report in watch(config, [folder], prune=True, stop=stop, say=said.append):
            reports.append(report)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: any("watching" in line for line in said))
    time.sleep(0.5)  # watchfiles has no sign that it began to look
    yield reports, said
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


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


def test_missing_folder_is_said_at_once(config: Config, here: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        next(watch(config, [here / "nowhere"]))


def rows_paths(config: Config) -> set[str]:
    return {path for path, _, _ in rows_of(config).values()}
