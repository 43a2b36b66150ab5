"""`RagApp.ingest`: with the app's own parts, one at a time, ended by `close`."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from rag_app import RagApp
from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.load import load_config, override
from rag_app.schema import IngestProgress
from tests.conftest import FakeEmbedder, make_files

from .ingestion.test_ingestion_changes import page, rows_of


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path) -> Config:
    overrides = {"vector_store.uri": str(here / "app.db"), "chunking.overlap": 0}
    return load_config(overrides={**overrides, "chunking.size": 24})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", {"a.md": page("alpha"), "b.md": page("beta")})


def test_what_was_made_of_the_app_before_finds_what_is_new(config: Config, folder: Path) -> None:
    own = FakeEmbedder(model_name="own")
    with RagApp(config, embedder=own) as app:  # type: ignore[arg-type]
        assert app.ingest([folder], dry_run=True).new == ("a.md", "b.md")
        with pytest.raises(InputError, match="there is no collection"):
            _ = app.store
        seen: list[IngestProgress] = []
        assert app.ingest([folder], progress=seen.append).new == ("a.md", "b.md")
        assert seen[-1].share == 1.0
        retriever = app.retriever(similarity_top_k=50)

        def found() -> set[str]:
            return {node.metadata["path"] for node in retriever.retrieve("alpha gamma")}

        assert found() == {"a.md", "b.md"}
        make_files(folder, {"c.md": page("gamma")})
        (folder / "b.md").unlink()
        report = app.ingest([folder], prune=True)
        assert (report.new, report.removed) == (("c.md",), ("b.md",))
        assert found() == {"a.md", "c.md"}
        assert app.ingest([folder]).nodes_written == 0
    assert own.embedded


def test_a_loaded_embedder_is_not_needed_for_nothing(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RagApp(config) as app:
        app.ingest([folder])

    def load(_: object) -> None:
        raise AssertionError("loaded for nothing")

    monkeypatch.setattr("rag_app.app.build_embedder", load)
    with RagApp(config) as app:
        assert app.ingest([folder]).unchanged == ("a.md", "b.md")


def test_a_rebuilt_index_is_searched_as_it_is_now(config: Config, folder: Path) -> None:
    with RagApp(config) as app:
        app.ingest([folder])
    flat = override(config, {"index.type": "FLAT"})
    with RagApp(flat) as app:
        retriever = app.retriever(mode="dense")
        assert app.store.built_index.type != "FLAT"
        report = app.ingest([folder])
        assert any("rebuilt the index" in note and "FLAT" in note for note in report.notes)
        assert app.store.built_index.type == "FLAT"
        assert retriever.retrieve("alpha")


def test_two_threads_take_turns(config: Config, tmp_path: Path) -> None:
    folders = [
        make_files(tmp_path / f"docs{number}", {f"{number}.md": page(f"n{number}", 40)})
        for number in range(4)
    ]
    with RagApp(config) as app, ThreadPoolExecutor(4) as threads:
        reports = list(threads.map(lambda folder: app.ingest([folder]), folders))
        assert [report.new for report in reports] == [(f"{number}.md",) for number in range(4)]
        assert len(rows_of(config)) == sum(report.nodes_written for report in reports)


def test_close_ends_an_ingest_that_the_next_one_goes_on_with(config: Config, folder: Path) -> None:
    make_files(folder, {f"{number}.md": page(f"n{number}", 200) for number in range(6)})
    app, began = RagApp(config), Event()

    def close() -> None:
        began.wait(30)
        app.close()

    threading.Thread(target=close, daemon=True).start()

    def slowly(told: IngestProgress) -> None:
        if told.nodes:
            began.set()
            app._ingests._stops[0].wait(30)

    report = app.ingest([folder], progress=slowly)
    assert report.interrupted
    app.close()
    with pytest.raises(InputError, match="this RagApp is closed"):
        app.ingest([folder])
    with RagApp(config) as again:
        rest = again.ingest([folder])
        assert rest.nodes_reused == report.nodes_embedded > 0
        assert again.ingest([folder]).nodes_written == 0


def test_a_database_that_only_an_ingest_opened_is_given_back(config: Config, folder: Path) -> None:
    opens = (
        "import sys; from rag_app import load_config; from rag_app.milvus.store import connect;"
        f"connect(load_config(overrides={{'vector_store.uri': {config.vector_store.uri!r}}})"
        ".vector_store).close()"
    )
    app = RagApp(config)
    app.ingest([folder])
    other = subprocess.run([sys.executable, "-c", opens], capture_output=True, timeout=60)
    assert other.returncode == 0, other.stderr
    app.close()
