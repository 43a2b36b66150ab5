"""`verify` finds what is wrong with the rows, and mends it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from rag_app.config.sections import Config
from rag_app.ingestion.run import ingest
from rag_app.ingestion.verify import verify
from rag_app.load import load_config
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import open_store
from rag_app.schema import VerifyReport
from tests.conftest import FakeEmbedder, json_of, make_files
from tests.ingestion.test_ingestion_changes import page, rows_of


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path, folder: Path) -> Config:
    config = load_config(
        overrides={
            "vector_store.uri": str(here / "verify.db"),
            "chunking.size": 24,
            "chunking.overlap": 0,
        }
    )
    ingest(config, [folder])
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", {"a.md": page("alpha"), "b.md": page("beta")})


def store_of(config: Config) -> CollectionStore:
    return open_store(config)


def found(report: VerifyReport) -> list[tuple[str, str, bool]]:
    return [(problem.kind, problem.path, problem.repaired) for problem in report.problems]


def test_nothing_is_wrong_after_an_ingest(config: Config) -> None:
    report = verify(config)
    assert report.ok
    assert (report.problems, report.documents) == ((), 2)
    assert report.rows == len(rows_of(config))


def test_missing_rows_are_found_and_ingested_again(
    config: Config, fake_embedder: FakeEmbedder
) -> None:
    before = rows_of(config)
    lost = [id_ for id_, (path, _, _) in before.items() if path == "a.md"][:3]
    store_of(config).delete_ids(lost)
    report = verify(config)
    assert found(report) == [("incomplete", "a.md", False)]
    assert "3 of" in report.problems[0].detail
    fake_embedder.embedded.clear()
    assert found(verify(config, repair=True)) == [("incomplete", "a.md", True)]
    assert len(fake_embedder.embedded) == 3
    assert rows_of(config) == before
    assert verify(config).problems == ()


def test_rows_that_are_not_of_the_document_are_deleted(config: Config) -> None:
    before = rows_of(config)
    store = store_of(config)
    document = next(iter(store.documents()))
    (copy, *_) = store.nodes_of(document)
    copy.id_ = "0" * 32
    copy.embedding = [0.0] * 63 + [1.0]
    store.add([copy])
    report = verify(config)
    assert "duplicate" in {kind for kind, _, _ in found(report)}
    assert verify(config, repair=True).ok
    assert rows_of(config) == before


def test_changed_file_is_outdated_until_repaired(config: Config, folder: Path) -> None:
    (folder / "a.md").write_text(page("other"))
    assert found(verify(config)) == [("outdated", "a.md", False)]
    assert found(verify(config, repair=True)) == [("outdated", "a.md", True)]
    assert any("other" in text for _, _, text in rows_of(config).values())


def test_rows_of_two_versions_are_outdated(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.md").write_text(page("other"))
    with monkeypatch.context() as patch:
        patch.setattr(CollectionStore, "delete_ids", lambda *_: None)
        ingest(config, [folder])
    report = verify(config)
    assert ("outdated", "a.md", False) in found(report)
    assert "2 versions" in report.problems[0].detail
    assert verify(config, repair=True).ok
    assert not any("alpha" in text for _, _, text in rows_of(config).values())


def test_document_without_file_is_orphaned_and_kept_while_its_folder_is_away(
    config: Config, folder: Path
) -> None:
    shutil.move(folder, folder.with_name("away"))
    report = verify(config, repair=True)
    assert found(report) == [("unseen", "a.md", False), ("unseen", "b.md", False)]
    assert not report.ok
    assert report.documents == 2
    shutil.move(folder.with_name("away"), folder)
    (folder / "b.md").unlink()
    assert found(verify(config, repair=True)) == [("orphaned", "b.md", True)]
    assert {path for path, _, _ in rows_of(config).values()} == {"a.md"}


def test_rows_of_another_application_are_counted_and_never_touched(
    config: Config, folder: Path
) -> None:
    """With any ids, of its own documents or of ours, with our metadata or without."""
    store = store_of(config)
    document = next(iter(store.documents()))
    (ours, *_) = store.nodes_of(document)
    nodes = [
        TextNode(id_="5b5ccf2e-6a5e-4c3a-9f2f-0d2f5d8f9f0e", text="dashed, without a document"),
        TextNode(id_="notes/'a\"b\\c.md_part_0", text="a path", metadata={"path": "notes.md"}),
        TextNode(id_="f" * 32, text="a digest, without our metadata"),
        TextNode(id_="9" * 32, text="a digest, of our document, without our metadata"),
        TextNode(id_="one-of-ours", text="of our document", metadata=dict(ours.metadata)),
        TextNode(id_="e" * 32, text="of its own, with our metadata", metadata=dict(ours.metadata)),
    ]
    for number, node in enumerate(nodes):
        node.embedding = [0.0] * 63 + [1.0]
        source = {1: "notes/'a.md", 3: document, 4: document, 5: "0-1"}.get(number)
        if source is not None:
            node.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    before = rows_of(config)
    store.add(nodes)
    store.flush()
    foreign = {node.node_id for node in nodes}
    for repair in (False, True):
        report = verify(config, repair=repair)
        assert (report.problems, report.foreign_rows) == ((), len(nodes))
        assert set(ids_in(store)) == {*before, *foreign}
    lost = [id_ for id_, (path, _, _) in before.items() if path == "a.md"][:2]
    store.delete_ids(lost)
    (folder / "b.md").unlink()
    assert {problem.kind for problem in verify(config).problems} == {"incomplete", "orphaned"}
    assert verify(config, repair=True).ok
    kept = {id_ for id_, (path, _, _) in before.items() if path == "a.md"}
    assert set(ids_in(store)) == {*kept, *foreign}
    (folder / "a.md").write_text(page("other"))
    ingest(config, [folder])
    assert foreign <= set(ids_in(store))
    assert not kept & set(ids_in(store))


def ids_in(store: CollectionStore) -> list[str]:
    return [row["id"] for row in store._rows('id != ""', ["id"])]


def test_command_says_what_is_wrong_and_exits_1(config: Config, run: Callable[..., Result]) -> None:
    settings = [
        *("--set", f"vector_store.uri={config.vector_store.uri}"),
        *("--set", "chunking.size=24", "--set", "chunking.overlap=0"),
    ]
    assert json_of(run("verify", *settings, "--json"))["problems"] == []
    store_of(config).delete_ids([next(iter(rows_of(config)))])
    result = run("verify", *settings)
    assert result.exit_code == 1
    assert "incomplete" in result.stdout
    assert "rag-app verify --repair" in result.stderr
    result = run("verify", *settings, "--repair")
    assert result.exit_code == 0
    assert "(repaired)" in result.stdout
