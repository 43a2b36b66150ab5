"""Migrations: what is planned, built, caught up with, switched to, taken back, and finished."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError, InputError
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.migration.migrate import finish, migrate, roll_back
from rag_app.migration.plan import plan
from rag_app.milvus.copying import contents
from rag_app.milvus.store import connect, open_store
from tests.conftest import FakeEmbedder, make_files

PAGES = {
    f"{number}.md": "\n\n".join(
        f"Paragraph {part} of page {number} tells of subject{number}x{part} and no other thing."
        for part in range(6)
    )
    for number in range(8)
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "pages", dict(PAGES))


class Other(FakeEmbedder):
    """Another model: its vectors are those of other words."""

    def _vector(self, text: str) -> list[float]:
        return list(reversed(super()._vector(text)))


@pytest.fixture
def embedders(fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Models by the name that is configured."""
    made: dict[str, Any] = {"a/first": fake_embedder, "b/second": Other(model_name="other")}
    for module in ("rag_app.ingestion.run", "rag_app.app", "rag_app.embedding.others"):
        monkeypatch.setattr(f"{module}.build_embedder", lambda section: made[section.model])
    for module in ("rag_app.migration.migrate", "rag_app.migration.plan"):
        monkeypatch.setattr(f"{module}.build_embedder", lambda section: made[section.model])
    return made


def config_of(overrides: dict[str, Any], **more: Any) -> Config:
    return load_config(
        overrides={
            "embedding.model": "a/first",
            "embedding.max_length": 256,
            "chunking.size": 60,
            "chunking.overlap": 0,
            "index.type": "FLAT",
            **overrides,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
    )


@pytest.fixture
def made(store_overrides: dict[str, Any], folder: Path, embedders: dict[str, Any]) -> Config:
    config = config_of(store_overrides)
    ingest(config, [folder])
    return config


@pytest.fixture
def changed(store_overrides: dict[str, Any]) -> Any:
    return lambda **more: config_of(store_overrides, **more)


def vectors(config: Config) -> dict[str, Any]:
    store = open_store(config)
    return {
        node.node_id: node.embedding for page in store.pages_of_nodes(vectors=True) for node in page
    }


@pytest.mark.server
def test_another_model_is_built_from_the_stored_texts_and_switched_to(
    made: Config, changed: Any, folder: Path, embedders: dict[str, Any]
) -> None:
    for file in folder.iterdir():
        file.unlink()
    wanted = changed(embedding__model="b/second")
    told = plan(wanted)
    assert [(each.key, each.needs) for each in told.changes] == [
        ("embedding.model", "other vectors")
    ]
    assert told.cost is not None
    assert (told.cost.nodes, told.command) == (told.rows, "rag-app migrate")
    before = vectors(made)
    with RagApp(made) as app:
        retriever = app.retriever(mode="dense", similarity_top_k=1)
        asked = "subject3x2"
        (hit,) = retriever.retrieve(asked)
        report = migrate(wanted)
        assert (report.action, report.embedded, report.reused) == ("switched", len(before), 0)
        until = time.monotonic() + 20
        while app.store.collection_name != report.collection:
            assert time.monotonic() < until
            assert retriever.retrieve(asked)[0].node.get_content() == hit.node.get_content()
        # The running app asks with the model that made it.
        assert retriever.retrieve(asked)[0].node.get_content() == hit.node.get_content()
        assert retriever.retrieve(asked)[0].score == pytest.approx(hit.score, abs=1e-3)
    after = vectors(wanted)
    assert after.keys() == before.keys()
    assert {id_: list(reversed(vector)) for id_, vector in after.items()} == before
    assert vectors(made) == after  # either configuration searches meanwhile
    assert plan(wanted, measure=False).line().startswith("nothing to do")
    with pytest.raises(CollectionMismatchError):
        ingest(made, [folder.parent])

    back = roll_back(wanted)
    assert (back.action, back.collection) == ("rolled back", report.other)
    assert vectors(made) == before
    again = migrate(wanted)
    assert (again.action, again.embedded) == ("switched", 0)
    done = finish(wanted)
    assert (done.action, done.collection) == ("finished", report.collection)
    names = connect(made.vector_store).list_collections()
    assert report.collection in names
    assert report.other not in names
    with pytest.raises(CollectionMismatchError, match=r"embedding\.model"):
        open_store(made)
    with pytest.raises(InputError, match="no migration"):
        finish(wanted)


def test_other_nodes_are_made_from_the_files_and_vectors_are_taken_over(
    made: Config, changed: Any, folder: Path, embedders: dict[str, Any]
) -> None:
    wanted = changed(chunking__size=16)
    embedders["a/first"].embedded.clear()
    report = migrate(wanted, switch=False)
    assert report.action == "built"
    assert report.embedded == len(embedders["a/first"].embedded)
    # Meanwhile the old one gets a file, loses one, and one changes that nobody ingests.
    (folder / "0.md").unlink()
    make_files(folder, {"new.md": "A new page tells of novelties."})
    ingest(made, [folder], prune=True)
    (folder / "1.md").write_text("This page says something else now, about elephants.")
    embedders["a/first"].embedded.clear()
    report = migrate(wanted)
    assert report.action == "switched"
    assert len(embedders["a/first"].embedded) <= 4
    after = open_store(wanted)
    assert {document.path for document in after.documents().values()} == {
        *(f"{number}.md" for number in range(1, 8)),
        "new.md",
    }
    assert any("elephants" in text for _, _, text in after.texts())
    assert ingest(wanted, [folder]).nodes_written == 0


def test_files_that_are_gone_are_named_before_anything_is_made(
    made: Config, changed: Any, folder: Path
) -> None:
    (folder / "0.md").unlink()
    wanted = changed(chunking__size=16)
    assert plan(wanted).cost.missing == ("0.md",)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="1 of the 8 files are not there"):
        migrate(wanted)
    assert migrate(wanted, without_missing=True).action == "switched"
    assert len(open_store(wanted).documents()) == 7


def test_words_of_another_language_are_counted_and_no_vector_is_made(
    made: Config, changed: Any, embedders: dict[str, Any]
) -> None:
    wanted = changed(retrieval__language="german")
    embedders["a/first"].embedded.clear()
    before = vectors(made)
    report = migrate(wanted)
    assert (report.action, report.embedded, report.reused) == ("switched", 0, len(before))
    assert embedders["a/first"].embedded == []
    assert vectors(wanted) == before


def test_an_index_is_changed_in_place(made: Config, changed: Any) -> None:
    wanted = changed(index__type="HNSW")
    told = plan(wanted)
    assert told.needs == {"in place"}
    assert told.command == "rag-app index apply"
    assert migrate(wanted).action == "in place"
    assert plan(wanted).line() == "nothing to do"
    assert open_store(wanted).collection_name == made.vector_store.collection


def test_the_same_vectors_of_another_runtime_are_nothing_to_do(made: Config, changed: Any) -> None:
    wanted = changed(embedding__runtime="torch")
    assert plan(wanted).changes == ()
    assert migrate(wanted).action == "nothing"


def test_a_switch_that_is_refused_leaves_the_name_as_it_was(made: Config, changed: Any) -> None:
    wanted = changed(chunking__size=16)

    def refuse(before: Config, after: Config) -> None:
        assert open_store(before).count() < open_store(after).count()
        raise InputError("worse")

    with pytest.raises(InputError, match="worse"):
        migrate(wanted, approve=refuse)
    assert plan(wanted, measure=False).needs == {"other nodes"}
    done = finish(made)
    assert done.notes == ("dropped rag_app_2",)
    assert contents(open_store(made)).documents


def test_threads_that_ask_during_a_switch_get_answers_of_one_collection(
    made: Config, changed: Any
) -> None:
    wanted = changed(chunking__size=16, embedding__model="b/second")
    mixed: list[str] = []
    stop = threading.Event()
    with RagApp(made) as app:
        sizes = [{node.node_id for page in app.store.pages_of_nodes() for node in page}]
        retriever = app.retriever(similarity_top_k=4)
        found: list[set[str]] = []

        def ask(number: int) -> None:
            try:
                while not stop.is_set():
                    hits = retriever.retrieve(f"subject{number % 8}x{number % 6}")
                    found.append({hit.node.node_id for hit in hits})
            except Exception as error:
                mixed.append(repr(error))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        report = migrate(wanted)
        time.sleep(2)
        roll_back(wanted)
        time.sleep(2)
        migrate(wanted)
        finish(wanted)
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join()
        sizes.append({node.node_id for page in app.store.pages_of_nodes() for node in page})
        assert app.store.collection_name == report.collection
    assert mixed == []
    assert all(hits <= sizes[0] or hits <= sizes[1] for hits in found)
    assert any(hits and not hits <= sizes[0] for hits in found)
    assert all(found)


def test_an_ingest_migrates_by_itself_or_leaves_all_as_it_is(
    made: Config, changed: Any, folder: Path, embedders: dict[str, Any], run: Any
) -> None:
    (folder / "0.md").write_text("Something else is written here now.")
    ingest(changed(index__type="HNSW", migration__auto="never"), [folder])
    assert open_store(made).built_index.type == "FLAT"
    settings = {
        "vector_store.uri": made.vector_store.uri,
        "vector_store.collection": made.vector_store.collection,
        "embedding.model": "b/second",
        "embedding.max_length": "256",
        "chunking.size": "60",
        "chunking.overlap": "0",
        "index.type": "FLAT",
        "migration.auto": "compare",
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = run(*options, "ingest", str(folder))
    assert result.exit_code == 0, result.output
    assert "switched: rag_app means rag_app_2" in result.stderr
    assert "8 unchanged" in result.stdout
