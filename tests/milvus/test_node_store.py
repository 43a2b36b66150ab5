"""Nodes of LlamaIndex applications, with ids of their own: written, updated, returned, deleted."""

import asyncio
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rag_app.errors import InputError
from rag_app.load import load_config
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import create_store
from tests.conftest import FakeEmbedder, MakeConfig
from tests.milvus.test_expression import STRINGS

IDS = [
    str(uuid.UUID(int=7)),
    "/home/me/a very long path/" + "folder/" * 40 + "file.md_part_0",
    *(text for text in STRINGS if text),
]
TEXT = "graphs of vectors"


@pytest.fixture
def store(make_config: MakeConfig) -> CollectionStore:
    return create_store(make_config(), dimension=64)


def node(id_: str, document: str, text: str = TEXT, **metadata: Any) -> TextNode:
    made = TextNode(id_=id_, text=text, metadata=metadata)
    made.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    made.embedding = FakeEmbedder()._vector(text)
    return made


def ids_in(store: CollectionStore) -> set[str]:
    return {row["id"] for row in store._rows('id != ""', ["id"])}


def documents_in(store: CollectionStore) -> set[str]:
    return {row["doc_id"] for row in store._rows('id != ""', ["doc_id"])}


def texts(nodes: list[BaseNode]) -> list[str]:
    return sorted(each.get_content() for each in nodes)


# --- any id --------------------------------------------------------------------------------------


def check_ids(store: CollectionStore, ids: list[str]) -> None:
    """Each id means its own node and no other, in every method that takes one."""
    store.clear()
    store.add([node(id_, f"doc {id_}", text=f"text of {id_}") for id_ in ids])
    left = set(ids)
    assert ids_in(store) == left
    for number, id_ in enumerate(ids):
        assert [each.node_id for each in store.get_nodes([id_])] == [id_]
        assert [row.id for row in store.rows_of(f"doc {id_}")] == []
        if number % 3 == 0:
            store.delete(f"doc {id_}")
        elif number % 3 == 1:
            store.delete_nodes([id_])
        else:
            store.delete_ids([id_])
        left.remove(id_)
        assert ids_in(store) == left, id_


def test_any_id_means_its_own_node_and_no_other(store: CollectionStore) -> None:
    check_ids(store, IDS)


ANY_ID = st.text(min_size=1, max_size=80) | st.lists(
    st.sampled_from(['"', "'", "\\", "]", "[", ")", "(", " or ", " not in ", "id", "==", "%", "_"]),
    min_size=1,
    max_size=12,
).map("".join)


@given(ids=st.lists(ANY_ID, min_size=1, max_size=6, unique=True))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_id_escapes(ids: list[str], store: CollectionStore) -> None:
    check_ids(store, ids)


@pytest.mark.server
@pytest.mark.parametrize("store_overrides", ["server"], indirect=True)
def test_any_id_means_its_own_node_on_a_server_too(store_overrides: dict[str, str]) -> None:
    store = create_store(load_config(overrides=store_overrides), dimension=64)
    ids = [id_ for id_ in IDS if len(id_.encode()) <= 4000]
    store.add([node(id_, f"doc {id_}") for id_ in ids])
    assert ids_in(store) == set(ids)
    for id_ in ids:
        assert [each.node_id for each in store.get_nodes([id_])] == [id_]
    halves = ids[::2], ids[1::2]
    for id_ in halves[0]:
        store.delete(f"doc {id_}")
    assert ids_in(store) == set(halves[1])
    store.delete_nodes(halves[1][1:])
    assert ids_in(store) == {halves[1][0]}
    store.clear()
    assert ids_in(store) == set()


def test_an_id_that_is_no_text_is_refused(store: CollectionStore) -> None:
    for use in (store.delete, lambda id_: store.delete_nodes([id_])):
        with pytest.raises(InputError, match="not Unicode"):
            use("\ud800")


# --- LlamaIndex's own ways -----------------------------------------------------------------------


@pytest.fixture
def index(store: CollectionStore) -> VectorStoreIndex:
    return VectorStoreIndex(
        nodes=[],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=FakeEmbedder(model_name="fake"),
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0)],
    )


def test_documents_are_updated_refreshed_and_deleted(
    index: VectorStoreIndex, store: CollectionStore
) -> None:
    first, second = (Document(id_=id_, text=f"{id_} first") for id_ in IDS[:2])
    index.insert(first)
    index.insert(second)
    assert documents_in(store) == set(IDS[:2])
    index.update_ref_doc(Document(id_=IDS[0], text="changed"))
    assert texts(store.get_nodes(filters=is_of(IDS[0]))) == ["changed"]
    changed = index.refresh_ref_docs(
        [Document(id_=IDS[0], text="changed"), Document(id_=IDS[1], text="refreshed")]
    )
    assert changed == [False, True]
    assert texts(store.get_nodes(filters=is_of(IDS[1]))) == ["refreshed"]
    index.delete_ref_doc(IDS[1], delete_from_docstore=True)
    assert documents_in(store) == {IDS[0]}


def is_of(document: str) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key="doc_id", value=document)])


def test_a_pipeline_upserts(store: CollectionStore) -> None:
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), FakeEmbedder()],
        vector_store=store,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    pipeline.run(documents=[Document(id_=id_, text="as it was") for id_ in IDS[:2]])
    pipeline.run(documents=[Document(id_=IDS[0], text="as it is")])
    assert texts(store.get_nodes(filters=is_of(IDS[0]))) == ["as it is"]
    assert texts(store.get_nodes(filters=is_of(IDS[1]))) == ["as it was"]


def test_nodes_are_returned_and_deleted_by_ids_and_filters(store: CollectionStore) -> None:
    store.add([node(id_, "d", text=id_, kind=number % 2) for number, id_ in enumerate("abcd")])
    even = MetadataFilters(filters=[MetadataFilter(key="kind", value=0)])
    assert texts(store.get_nodes(["a", "b", "nothing"])) == ["a", "b"]
    assert texts(store.get_nodes(filters=even)) == ["a", "c"]
    assert texts(store.get_nodes(["a", "b"], even)) == ["a"]
    assert store.get_nodes([]) == []
    (got,) = store.get_nodes(["a"])
    assert got.embedding == pytest.approx(FakeEmbedder()._vector("a"))
    store.delete_nodes([])
    store.delete_nodes(["a", "b"], even)
    assert ids_in(store) == {"b", "c", "d"}
    store.delete_nodes(filters=even)
    assert ids_in(store) == {"b", "d"}
    for use in (store.get_nodes, store.delete_nodes):
        with pytest.raises(InputError, match="no nodes are named"):
            use()
        with pytest.raises(InputError, match="no nodes are named"):
            use(filters=MetadataFilters(filters=[]))
    assert ids_in(store) == {"b", "d"}


def test_async_forms_work_in_two_event_loops(store: CollectionStore) -> None:
    async def use() -> None:
        await store.async_add([node("a", "x"), node("b", "y"), node("c", "z")])
        assert texts(await store.aget_nodes(["a"])) == [TEXT]
        await store.adelete_nodes(["a"])
        await store.adelete("y")
        assert ids_in(store) == {"c"}
        await store.aclear()
        assert ids_in(store) == set()

    for _ in range(2):
        asyncio.run(use())


def test_a_cleared_collection_can_be_written_to(store: CollectionStore) -> None:
    store.add([node("a", "x")])
    store.clear()
    store.add([node("b", "x")])
    assert ids_in(store) == {"b"}
    assert store.count() == 1
