"""Whatever happens to the folder, the collection follows: on Milvus Lite and on a real server."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_app.config.sections import Config
from rag_app.documents.file_types import READERS, FileReader
from rag_app.errors import InputError
from rag_app.ingestion import pipeline
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import find_store
from rag_app.milvus.stored_documents import list_documents, remove_documents, show_document
from rag_app.schema import IngestProgress, IngestReport
from tests.conftest import FakeEmbedder, make_files
from tests.milvus_server import MilvusServer

Rows = dict[str, tuple[str, str, str]]


def page(name: str, paragraphs: int = 12) -> str:
    """Paragraphs of about a node each, all different."""
    return f"# {name}\n\n" + "\n\n".join(
        f"Paragraph {number} of {name} tells of thing {name}{number} and of nothing else at all."
        for number in range(paragraphs)
    )


def rows_of(config: Config) -> Rows:
    """Every row by id: its document's path, its version and its text."""
    store = find_store(config)
    if store is None:
        return {}
    return {
        row["id"]: (row["path"], row["content_hash"], row["text"])
        for row in store._rows('doc_id != ""', ["id", "path", "content_hash", "text"])
    }


@pytest.fixture
def config(fake_embedder: FakeEmbedder, store_overrides: dict[str, str]) -> Config:
    overrides: dict[str, Any] = {"chunking.size": 24, "chunking.overlap": 0, **store_overrides}
    return load_config(overrides=overrides)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(
        tmp_path / "docs",
        {"a.md": page("alpha"), "b.txt": page("beta"), "sub/c.md": page("gamma")},
    )


@pytest.fixture
def undisturbed(fake_embedder: FakeEmbedder, here: Path) -> Callable[[Path], Rows]:
    """A function that ingests a folder into a fresh collection and returns its rows."""

    def make(folder: Path) -> Rows:
        fresh = load_config(
            overrides={
                "vector_store.uri": str(here / f"fresh{len(list(here.iterdir()))}.db"),
                "chunking.size": 24,
                "chunking.overlap": 0,
            }
        )
        ingest(fresh, [folder])
        return rows_of(fresh)

    return make


@pytest.mark.server
def test_one_changed_paragraph_embeds_one_node(
    config: Config, folder: Path, undisturbed: Callable[[Path], Rows]
) -> None:
    ingest(config, [folder])
    changed = (folder / "a.md").read_text().replace("thing alpha5", "a thing quite different")
    (folder / "a.md").write_text(changed)
    report = ingest(config, [folder])
    assert report.changed == ("a.md",)
    assert report.nodes_embedded == report.nodes_deleted == 1
    assert report.nodes_reused == report.nodes["changed"] - 1 > 5
    assert rows_of(config) == undisturbed(folder)


@pytest.mark.parametrize("prune", [False, True])
def test_removed_file_is_counted_and_only_pruned_when_asked(
    config: Config, folder: Path, undisturbed: Callable[[Path], Rows], prune: bool
) -> None:
    before = ingest(config, [folder])
    (folder / "b.txt").unlink()
    report = ingest(config, [folder], prune=prune)
    assert (report.removed, report.gone)[not prune] == ("b.txt",)
    assert (report.removed, report.gone)[prune] == ()
    assert report.pruned is prune
    if prune:
        assert report.nodes_deleted == report.nodes["removed"] > 0
        assert rows_of(config) == undisturbed(folder)
    else:
        assert report.nodes_deleted == 0
        assert report.rows == before.rows


@pytest.mark.server
def test_renamed_file_reuses_its_vectors(
    config: Config, folder: Path, undisturbed: Callable[[Path], Rows], fake_embedder: FakeEmbedder
) -> None:
    ingest(config, [folder])
    (folder / "b.txt").rename(folder / "sub" / "renamed.txt")
    fake_embedder.embedded.clear()
    report = ingest(config, [folder], prune=True)
    assert (report.new, report.removed) == (("sub/renamed.txt",), ("b.txt",))
    assert (report.nodes_embedded, fake_embedder.embedded) == (0, [])
    assert report.nodes_reused == report.nodes["new"] > 0
    assert rows_of(config) == undisturbed(folder)


def test_part_of_a_folder_keeps_its_names_and_touches_nothing_else(
    config: Config, folder: Path
) -> None:
    ingest(config, [folder])
    before = rows_of(config)
    (folder / "sub" / "c.md").unlink()
    make_files(folder, {"sub/d.md": page("delta")})
    report = ingest(config, [folder / "sub"], prune=True)
    assert (report.new, report.removed) == (("sub/d.md",), ("sub/c.md",))
    kept = {id_: row for id_, row in rows_of(config).items() if row[0] in {"a.md", "b.txt"}}
    assert kept == {id_: row for id_, row in before.items() if row[0] != "sub/c.md"}


def test_folder_further_up_takes_over_without_doubling(
    config: Config, folder: Path, tmp_path: Path, undisturbed: Callable[[Path], Rows]
) -> None:
    ingest(config, [folder / "sub"])
    assert [document.path for document in list_documents(config)] == ["c.md"]
    report = ingest(config, [folder])
    assert report.removed == ("c.md",)
    assert report.nodes_deleted > 0
    assert rows_of(config) == undisturbed(folder)


def test_file_becomes_a_folder_and_back(
    config: Config, folder: Path, undisturbed: Callable[[Path], Rows]
) -> None:
    ingest(config, [folder])
    (folder / "b.txt").unlink()
    make_files(folder, {"b.txt/inside.md": page("inside")})
    report = ingest(config, [folder], prune=True)
    assert (report.new, report.removed) == (("b.txt/inside.md",), ("b.txt",))
    assert rows_of(config) == undisturbed(folder)
    shutil.rmtree(folder / "b.txt")
    make_files(folder, {"b.txt": page("beta")})
    ingest(config, [folder], prune=True)
    assert rows_of(config) == undisturbed(folder)


def test_same_content_under_two_names_is_two_documents_embedded_once(
    config: Config, folder: Path, fake_embedder: FakeEmbedder
) -> None:
    ingest(config, [folder])
    shutil.copy(folder / "a.md", folder / "copy of a.md")
    fake_embedder.embedded.clear()
    report = ingest(config, [folder])
    assert report.new == ("copy of a.md",)
    assert fake_embedder.embedded == []
    (folder / "a.md").unlink()
    ingest(config, [folder], prune=True)
    assert "copy of a.md" in {document.path for document in list_documents(config)}
    assert sum(row[0] == "copy of a.md" for row in rows_of(config).values()) == report.nodes["new"]


def test_dry_run_does_nothing(config: Config, folder: Path, fake_embedder: FakeEmbedder) -> None:
    planned = ingest(config, [folder], dry_run=True)
    assert planned.new == ("a.md", "b.txt", "sub/c.md")
    assert rows_of(config) == {}
    ingest(config, [folder])
    before = rows_of(config)
    (folder / "a.md").write_text("# Other\n\nText.")
    (folder / "b.txt").unlink()
    fake_embedder.embedded.clear()
    report = ingest(config, [folder], prune=True, dry_run=True)
    assert (report.changed, report.removed, report.dry_run) == (("a.md",), ("b.txt",), True)
    assert rows_of(config) == before
    assert fake_embedder.embedded == []


NAMES = [
    'quote".md',
    "it's.md",
    "back\\slash.md",
    "new\nline.md",
    "tab\there.md",
    "emoji 🦜.md",
    "עברית.md",
    'x"] or doc_id not in [".md',
    "%like%_.md",
    "-dash.md",
    " leading and trailing .md",
    "ümläut/日本語.md",
]


@pytest.mark.server
def test_odd_names_live_and_die_like_others(
    config: Config, tmp_path: Path, undisturbed: Callable[[Path], Rows]
) -> None:
    folder = make_files(
        tmp_path / "odd", {name: page(f"odd{i}", 3) for i, name in enumerate(NAMES)}
    )
    report = ingest(config, [folder])
    assert sorted(report.new) == sorted(NAMES)
    assert {document.path for document in list_documents(config)} == set(NAMES)
    assert len(show_document(config, NAMES[3])["node_texts"]) > 1
    assert len(ingest(config, [folder]).unchanged) == len(NAMES)
    (folder / NAMES[7]).unlink()
    assert ingest(config, [folder], prune=True).removed == (NAMES[7],)
    assert rows_of(config) == undisturbed(folder)


def test_file_that_changes_while_it_is_read_is_left_for_the_next_time(
    config: Config,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[Path], Rows],
) -> None:
    ingest(config, [folder])
    old = {row for row in rows_of(config).values() if row[0] == "a.md"}
    (folder / "a.md").write_text(page("alpha", 5))
    reader = READERS["markdown"]
    load = reader.load

    def write_meanwhile(self: FileReader, file: Path) -> tuple[str, str | None]:
        loaded = load(self, file)
        (folder / "a.md").write_text(page("later", 7))
        return loaded

    with monkeypatch.context() as patch:
        patch.setattr(reader, "load", write_meanwhile)
        report = ingest(config, [folder])
    assert [(skip.path, "changed while" in skip.reason) for skip in report.skipped] == [
        ("a.md", True)
    ]
    assert {row for row in rows_of(config).values() if row[0] == "a.md"} == old
    ingest(config, [folder])
    assert rows_of(config) == undisturbed(folder)


def test_stop_finishes_the_window_and_the_next_run_goes_on(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_embedder: FakeEmbedder,
    undisturbed: Callable[[Path], Rows],
) -> None:
    folder = make_files(tmp_path / "many", {f"{i}.md": page(f"n{i}", 6) for i in range(30)})
    monkeypatch.setattr(pipeline, "WINDOW", 10)
    stop = threading.Event()

    def progress(told: IngestProgress) -> None:
        if told.files_done >= 5:
            stop.set()

    first = ingest(config, [folder], progress=progress, stop=stop)
    assert first.interrupted
    assert 5 <= len(first.new) < 30
    assert first.rows == len(rows_of(config))
    assert {document.path for document in list_documents(config)} >= set(first.new)
    embedded = len(fake_embedder.embedded)
    second = ingest(config, [folder])
    assert not second.interrupted
    assert set(first.new) <= set(second.unchanged)
    assert len(fake_embedder.embedded) == second.rows == embedded + second.nodes_embedded
    assert rows_of(config) == undisturbed(folder)


def test_documents_are_removed_by_path_and_glob(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    with pytest.raises(InputError, match=r"'nope\.md'"):
        remove_documents(config, ["a.md", "nope.md"])
    assert len(list_documents(config)) == 3
    would = remove_documents(config, ["*.md"], dry_run=True)
    assert [document.path for document in would] == ["a.md", "sub/c.md"]
    assert len(list_documents(config)) == 3
    remove_documents(config, ["*.md"])
    assert [document.path for document in list_documents(config)] == ["b.txt"]
    assert {row[0] for row in rows_of(config).values()} == {"b.txt"}


def test_two_ingests_at_once_into_a_server_converge(
    fake_embedder: FakeEmbedder,
    milvus_server: MilvusServer,
    folder: Path,
    undisturbed: Callable[[Path], Rows],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 5)
    config = load_config(
        overrides={
            "vector_store.uri": milvus_server.uri,
            "vector_store.collection": "two_at_once",
            "chunking.size": 24,
            "chunking.overlap": 0,
        }
    )
    ingest(config, [folder / "a.md"])
    reports: list[IngestReport] = []
    both = [threading.Thread(target=lambda: reports.append(ingest(config, [folder]))) for _ in "ab"]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(120)
    assert len(reports) == 2
    assert ingest(config, [folder]).nodes_written == 0
    assert rows_of(config) == undisturbed(folder)


def test_failure_of_a_write_is_raised_and_mended_by_the_next_run(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Callable[[Path], Rows],
) -> None:
    folder = make_files(tmp_path / "many", {f"{i}.md": page(f"n{i}", 6) for i in range(20)})
    monkeypatch.setattr(pipeline, "WINDOW", 10)
    add, calls = CollectionStore.add, 0

    def fail_third(self: CollectionStore, nodes: Any, **kwargs: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        return add(self, nodes, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(CollectionStore, "add", fail_third)
        with pytest.raises(OSError, match="No space left"):
            ingest(config, [folder])
    report = ingest(config, [folder])
    assert report.nodes_embedded < report.rows
    assert rows_of(config) == undisturbed(folder)


def test_stop_in_a_window_writes_what_is_embedded_and_loses_nothing(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_embedder: FakeEmbedder,
    undisturbed: Callable[[Path], Rows],
) -> None:
    folder = make_files(tmp_path / "many", {f"{i}.md": page(f"n{i}", 6) for i in range(10)})
    monkeypatch.setattr(pipeline, "FIRST_SLICE", 5)
    monkeypatch.setattr(pipeline, "SLICE_SECONDS", 0.0)  # no slice grows
    stop = threading.Event()

    def progress(told: IngestProgress) -> None:
        if told.nodes >= 5:
            stop.set()

    first = ingest(config, [folder], progress=progress, stop=stop)
    assert first.interrupted
    assert first.rows == first.nodes_embedded == len(fake_embedder.embedded) == 5
    second = ingest(config, [folder])
    assert not second.interrupted
    assert len(fake_embedder.embedded) == second.rows
    assert rows_of(config) == undisturbed(folder)


def test_stop_when_everything_is_done_interrupts_nothing(config: Config, folder: Path) -> None:
    stop = threading.Event()

    def progress(told: IngestProgress) -> None:
        if told.share == 1:
            stop.set()

    report = ingest(config, [folder], progress=progress, stop=stop)
    assert stop.is_set()
    assert not report.interrupted
    assert len(report.new) == 3
    (folder / "b.txt").unlink()
    report = ingest(config, [folder], prune=True, stop=stop)
    assert (report.interrupted, report.gone) == (True, ("b.txt",))


def test_dry_run_counts_what_will_be_skipped(
    config: Config, folder: Path, fake_embedder: FakeEmbedder
) -> None:
    make_files(folder, {"half.json": '{"a": ', "front.md": "---\ntitle: x\n---\n"})
    planned = ingest(config, [folder], dry_run=True)
    done = ingest(config, [folder])
    assert planned.skipped == done.skipped
    assert (planned.new, len(planned.skipped)) == (done.new, 2)
