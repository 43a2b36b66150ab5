"""Where documents lie is part of what they are: two roots, moved folders, rows of before."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

from rag_app.build import build_retriever
from rag_app.config.sections import Config
from rag_app.documents.discover import SourceFile
from rag_app.errors import InputError
from rag_app.ingestion import pipeline
from rag_app.ingestion.run import ingest
from rag_app.ingestion.verify import verify
from rag_app.load import load_config
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import remove_documents, show_document
from rag_app.retrieval.expansion import expand
from tests.conftest import FakeEmbedder, json_of, make_files

from .test_ingestion_changes import page, rows_of

SMALL = {"chunking.size": 24, "chunking.overlap": 0}


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path) -> Config:
    return load_config(overrides={"vector_store.uri": str(here / "places.db"), **SMALL})


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, each with a README.md of its own."""
    return (
        make_files(tmp_path / "a", {"README.md": page("alpha"), "only-a.md": page("sole", 2)}),
        make_files(tmp_path / "b", {"README.md": page("beta")}),
    )


def places(config: Config) -> list[str]:
    return [str(document.file) for document in open_store(config).documents().values()]


def text_of(config: Config, path: str) -> str:
    return " ".join(node["text"] for node in show_document(config, path)["node_texts"])


# --- the same path twice -------------------------------------------------------------------------


def test_the_same_path_under_two_roots_is_two_documents(
    config: Config, two: tuple[Path, Path]
) -> None:
    a, b = two
    ingest(config, [a])
    report = ingest(config, [b])
    assert (report.new, report.changed, report.nodes_deleted) == (("README.md",), (), 0)
    assert places(config) == [f"{a}/README.md", f"{b}/README.md", f"{a}/only-a.md"]
    for folders in ([a], [b], [a, b]):
        again = ingest(config, folders, prune=True)
        assert (again.new, again.changed, again.removed) == ((), (), ())
    assert len(ingest(config, [a, b]).unchanged) == 3
    (b / "README.md").write_text(page("gamma"))
    assert ingest(config, [a, b]).changed == ("README.md",)
    assert "alpha" in text_of(config, f"{a}/README.md")
    assert "gamma" in text_of(config, f"{b}/README.md")


def test_both_are_new_in_one_run(config: Config, two: tuple[Path, Path]) -> None:
    assert ingest(config, two).new == ("README.md", "README.md", "only-a.md")
    assert verify(config).ok


def test_a_name_of_two_documents_is_refused_and_the_absolute_one_taken(
    config: Config, two: tuple[Path, Path]
) -> None:
    a, b = two
    ingest(config, two)
    for use in (show_document, lambda config, path: remove_documents(config, [path])):
        with pytest.raises(InputError, match=f"'README.md' is in {a}, {b}") as caught:
            use(config, "README.md")
        assert f"{a}/README.md" in caught.value.remedy
    assert "beta" in text_of(config, f"{b}/README.md")
    assert show_document(config, "only-a.md")["root"] == str(a)
    remove_documents(config, [f"{a}/README.md"])
    assert places(config) == [f"{b}/README.md", f"{a}/only-a.md"]
    assert "beta" in text_of(config, "README.md")


def test_lists_name_both_and_globs_take_both(
    config: Config, two: tuple[Path, Path], run: Callable[..., Result]
) -> None:
    ingest(config, two)
    options = [p for k, v in SMALL.items() for p in ("--set", f"{k}={v}")]
    options += ["--set", f"vector_store.uri={config.vector_store.uri}"]
    listed = run("documents", "list", *options)
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert names == [f"{two[0]}/README.md", f"{two[1]}/README.md", "only-a.md"]
    some = json_of(run("documents", "list", f"{two[1]}/*", *options, "--json"))
    assert [(each["root"], each["path"]) for each in some] == [(str(two[1]), "README.md")]
    assert len(json_of(run("documents", "list", "READ*", *options, "--json"))) == 2
    refused = run("documents", "rm", "README.md", *options)
    assert refused.exit_code == 2
    assert str(two[1]) in refused.stderr
    assert len(remove_documents(config, ["READ*"])) == 2


def test_search_neighbours_and_filters_keep_them_apart(
    config: Config, two: tuple[Path, Path]
) -> None:
    a, b = two
    ingest(config, two)
    filtered = config.model_copy(
        update={"retrieval": config.retrieval.model_copy(update={"filter": f'root = "{b}"'})}
    )
    hits = build_retriever(filtered).retrieve("thing alpha5")
    assert {hit.metadata["root"] for hit in hits} == {str(b)}
    (hit, *_) = build_retriever(config).retrieve("thing alpha5")
    assert hit.metadata["root"] == str(a)
    (passage,) = expand([hit], 1, open_store(config).nodes_in)
    assert "alpha" in passage.node.get_content()
    assert "beta" not in passage.node.get_content()


def test_verify_names_the_one_that_is_meant(config: Config, two: tuple[Path, Path]) -> None:
    ingest(config, two)
    (two[1] / "README.md").write_text(page("gamma"))
    (problem,) = verify(config).problems
    assert (problem.kind, problem.path) == ("outdated", f"{two[1]}/README.md")
    assert verify(config, repair=True).ok
    assert "alpha" in text_of(config, f"{two[0]}/README.md")
    assert verify(config).problems == ()


# --- rows that were made before ------------------------------------------------------------------


@pytest.fixture
def ids_of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """While it lasts, a document's id is made from its relative path alone."""
    with monkeypatch.context() as patch:
        patch.setattr(
            SourceFile,
            "document_id",
            property(lambda file: hashlib.sha256(file.path.encode()).hexdigest()[:32]),
        )
        yield patch


def test_rows_of_before_stay_until_their_file_changes(
    config: Config,
    two: tuple[Path, Path],
    ids_of_before: pytest.MonkeyPatch,
    fake_embedder: FakeEmbedder,
) -> None:
    a, b = two
    ingest(config, [a])
    before = rows_of(config)
    ids_of_before.undo()
    assert len(ingest(config, [a]).unchanged) == 2
    assert rows_of(config) == before
    assert verify(config).ok
    ingest(config, [b])
    assert before.items() <= rows_of(config).items()
    (a / "README.md").write_text(page("alpha").replace("thing alpha5", "a thing quite different"))
    fake_embedder.embedded.clear()
    report = ingest(config, [a])
    assert (report.changed, report.unchanged) == (("README.md",), ("only-a.md",))
    assert len(fake_embedder.embedded) == 1
    assert places(config) == [f"{a}/README.md", f"{b}/README.md", f"{a}/only-a.md"]
    assert "quite different" in text_of(config, f"{a}/README.md")
    assert verify(config).ok
    assert ingest(config, two).nodes_written == 0


def test_rows_of_before_are_superseded_after_a_kill(
    config: Config,
    two: tuple[Path, Path],
    ids_of_before: pytest.MonkeyPatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, _ = two
    ingest(config, [a])
    ids_of_before.undo()
    (a / "README.md").write_text(page("gamma"))
    with monkeypatch.context() as patch:
        patch.setattr(CollectionStore, "delete", _die)
        with pytest.raises(KeyError):
            ingest(config, [a])
    assert len(places(config)) == 3
    assert len(ingest(config, [a]).unchanged) == 2
    assert places(config) == [f"{a}/README.md", f"{a}/only-a.md"]
    assert "gamma" in text_of(config, "README.md")


def _die(*_: object) -> None:
    raise KeyError("killed")


# --- moved folders -------------------------------------------------------------------------------


def test_moved_folder_is_recognised_when_told(
    config: Config, two: tuple[Path, Path], tmp_path: Path, fake_embedder: FakeEmbedder
) -> None:
    a, _ = two
    ingest(config, [a])
    texts = sorted(text for _, _, text in rows_of(config).values())
    moved = Path(shutil.move(a, tmp_path / "moved"))
    (moved / "only-a.md").write_text(page("sole", 3))
    fake_embedder.embedded.clear()
    report = ingest(config, [moved], moved_from=a)
    assert (report.new, report.changed) == ((), ("only-a.md",))
    assert report.unchanged == ("README.md",)
    assert len(fake_embedder.embedded) == 1
    assert places(config) == [f"{moved}/README.md", f"{moved}/only-a.md"]
    assert {*texts} < {text for _, _, text in rows_of(config).values()}
    assert verify(config).ok
    assert ingest(config, [moved], moved_from=a).nodes_written == 0


def test_files_that_did_not_come_along_are_gone(
    config: Config, two: tuple[Path, Path], tmp_path: Path
) -> None:
    a, _ = two
    ingest(config, [a])
    moved = Path(shutil.move(a, tmp_path / "moved"))
    (moved / "only-a.md").unlink()
    assert ingest(config, [moved], moved_from=a).gone == ("only-a.md",)
    assert ingest(config, [moved], moved_from=a, prune=True, confirm=lambda _: True).removed == (
        "only-a.md",
    )
    assert places(config) == [f"{moved}/README.md"]


def test_folder_that_is_away_is_not_taken_for_moved_but_hinted_at(
    config: Config, two: tuple[Path, Path], tmp_path: Path, fake_embedder: FakeEmbedder
) -> None:
    a, _ = two
    ingest(config, [a])
    moved = shutil.move(a, tmp_path / "moved")
    fake_embedder.embedded.clear()
    report = ingest(config, [moved], prune=True)
    assert report.new == ("README.md", "only-a.md")
    assert (report.removed, fake_embedder.embedded) == ((), [])
    assert any(f"--moved-from {a}" in note for note in report.notes)
    assert len(places(config)) == 4
    report = ingest(config, [moved], moved_from=a)
    assert len(report.removed) == 2
    assert places(config) == [f"{moved}/README.md", f"{moved}/only-a.md"]


def test_part_of_a_known_folder_moves_within_it(config: Config, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "docs", {"old/x.md": page("x"), "y.md": page("y")})
    ingest(config, [folder])
    (folder / "old").rename(folder / "new")
    report = ingest(config, [folder / "new"], moved_from=folder / "old")
    assert (report.unchanged, report.removed) == (("new/x.md",), ("old/x.md",))
    assert report.nodes_embedded == 0
    assert places(config) == [f"{folder}/new/x.md", f"{folder}/y.md"]


def test_copies_are_not_moves(config: Config, two: tuple[Path, Path], tmp_path: Path) -> None:
    a, _ = two
    ingest(config, [a])
    copy = shutil.copytree(a, tmp_path / "copy")
    report = ingest(config, [copy], moved_from=a)
    assert f"2 documents stay: their files are still in {a}" in report.notes
    assert len(places(config)) == 4


@pytest.mark.parametrize("at", range(4))
def test_killed_in_a_move_loses_nothing_and_the_next_run_completes_it(
    config: Config,
    two: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_embedder: FakeEmbedder,
    at: int,
) -> None:
    a, _ = two
    ingest(config, [a])
    texts = {text for _, _, text in rows_of(config).values()}
    moved = shutil.move(a, tmp_path / "moved")
    fake_embedder.embedded.clear()
    monkeypatch.setattr(pipeline, "WINDOW", 8)
    calls = 0
    with monkeypatch.context() as patch:
        for name in ("add", "delete"):
            real = getattr(CollectionStore, name)

            def deadly(self: CollectionStore, *args: object, real: object = real) -> object:
                nonlocal calls
                calls += 1
                if calls > at:
                    raise KeyError("killed")
                return real(self, *args)  # type: ignore[operator]

            patch.setattr(CollectionStore, name, deadly)
        with pytest.raises(KeyError):
            ingest(config, [moved], moved_from=a)
    assert {text for _, _, text in rows_of(config).values()} == texts
    ingest(config, [moved], moved_from=a)
    assert places(config) == [f"{moved}/README.md", f"{moved}/only-a.md"]
    assert {text for _, _, text in rows_of(config).values()} == texts
    assert fake_embedder.embedded == []


def test_nonsense_of_moves_is_refused(
    config: Config, two: tuple[Path, Path], run: Callable[..., Result]
) -> None:
    a, b = two
    ingest(config, [a])
    with pytest.raises(InputError, match="no document in the collection is from"):
        ingest(config, [b], moved_from="nowhere")
    with pytest.raises(InputError, match="lies at one place now"):
        ingest(config, [a, b], moved_from="nowhere")
    with pytest.raises(InputError, match="cannot have been moved to itself"):
        ingest(config, [a], moved_from=a)


def test_rows_of_another_program_outlive_the_documents_beside_them(
    config: Config, tmp_path: Path
) -> None:
    """Of its own documents, and under the id of one of ours; whatever deletes ours."""
    folder = make_files(tmp_path / "old", {f"{n}.md": page(f"n{n}", 2) for n in range(5)})
    ingest(config, [folder])
    store = open_store(config)
    ids = {document.path: document.id for document in store.documents().values()}
    nodes = [
        TextNode(id_=f"theirs of {source}", text=f"beside {source}", embedding=[1.0] + [0.0] * 63)
        for source in ["their own", *ids.values()]
    ]
    for node in nodes:
        source = RelatedNodeInfo(node_id=node.node_id.removeprefix("theirs of "))
        node.relationships = {NodeRelationship.SOURCE: source}
    store.add(nodes)
    store.flush()

    def theirs() -> set[str]:
        found = open_store(config).get_nodes([node.node_id for node in nodes])
        return {node.node_id for node in found}

    everything = {node.node_id for node in nodes}
    (folder / "0.md").unlink()
    assert ingest(config, [folder], prune=True).removed == ("0.md",)
    assert theirs() == everything
    assert [each.path for each in remove_documents(config, ["1.md"])] == ["1.md"]
    assert theirs() == everything
    (folder / "2.md").write_text(page("other", 2))
    assert ingest(config, [folder / "2.md"]).changed == ("2.md",)
    assert theirs() == everything
    moved = folder.rename(tmp_path / "new")
    report = ingest(config, [moved], moved_from=folder)
    assert len(report.unchanged) == 3
    assert theirs() == everything
    shutil.rmtree(moved)
    moved.mkdir()
    assert len(ingest(config, [moved], prune=True, confirm=lambda _: True).removed) == 4
    assert theirs() == everything
    assert open_store(config).documents() == {}
    report_ = verify(config, repair=True)
    assert (report_.problems, report_.foreign_rows) == ((), len(nodes))
