"""The collection over a real Milvus Lite: what made it, what is in it, who holds it."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from llama_index.core import Settings
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from pymilvus import MilvusClient

from rag_app import build_retriever
from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError, InputError, RowsRefusedError, VectorStoreError
from rag_app.ingestion.run import ingest
from rag_app.milvus import made_by, rows
from rag_app.milvus.admin import list_collections
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.lite_files import collection_folder, release
from rag_app.milvus.store import create_store, find_store, open_store
from rag_app.milvus.stored_documents import list_documents
from tests.conftest import FakeEmbedder, MakeConfig, ordinary_user

ID = "0123456789abcdef" * 2


def node(text: str, number: int, document: str = ID) -> TextNode:
    made = TextNode(
        id_=f"{number:032x}",
        text=text,
        metadata={
            "path": "a.md",
            "title": "A",
            "type": "markdown",
            "size": 1,
            "root": "/",
            "content_hash": "h",
            "node_count": 3,
        },
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)},
    )
    made.embedding = FakeEmbedder()._vector(text)
    return made


TEXTS = ["graphs and edges", "clusters of vectors", "bread and yeast"]


@pytest.fixture
def store(make_config: MakeConfig) -> CollectionStore:
    """A collection of three rows."""
    made = create_store(make_config(), dimension=64)
    made.add([node(text, number) for number, text in enumerate(TEXTS)])
    made.flush()
    return made


def search(store: CollectionStore, question: str, top_k: int = 3) -> list[str]:
    vector = FakeEmbedder()._get_query_embedding(question)
    found = store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=top_k))
    assert found.nodes is not None
    return [hit.get_content() for hit in found.nodes]


def vectors(store: CollectionStore) -> dict[str, list[float]]:
    return {row.id: row.vector for row in store.rows_of(ID)}


# --- rows ----------------------------------------------------------------------------------------


def test_rows_are_searched_best_first(store: CollectionStore) -> None:
    vector = FakeEmbedder()._get_query_embedding("clusters of graphs")
    found = store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=3))
    assert found.nodes is not None
    assert found.similarities is not None
    assert found.nodes[0].get_content() == TEXTS[1]
    assert found.similarities == sorted(found.similarities, reverse=True)
    assert found.ids == [hit.node_id for hit in found.nodes]


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_scores_are_higher_for_better_ones_in_any_metric(
    metric: str, make_config: MakeConfig
) -> None:
    made = create_store(make_config(index__metric=metric), dimension=64)
    made.add([node(text, number) for number, text in enumerate(TEXTS)])
    vector = FakeEmbedder()._get_query_embedding("clusters of vectors")
    found = made.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=3))
    assert found.nodes is not None
    assert found.similarities is not None
    assert found.nodes[0].get_content() == TEXTS[1]
    assert found.similarities[0] > found.similarities[1] >= found.similarities[2]


def test_reopened_collection_can_be_searched(
    store: CollectionStore, make_config: MakeConfig
) -> None:
    release(make_config().vector_store.uri)
    reopened = open_store(make_config())
    assert reopened.count() == 3
    assert search(reopened, "yeast bread", top_k=1) == [TEXTS[2]]


def test_writing_twice_changes_nothing(store: CollectionStore) -> None:
    store.add([node(text, number) for number, text in enumerate(TEXTS)])
    store.flush()
    assert store.count() == 3


def test_nodes_come_back_as_they_were_written(store: CollectionStore) -> None:
    vector = FakeEmbedder()._get_query_embedding(TEXTS[0])
    found = store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=1))
    assert found.nodes is not None
    hit, written = found.nodes[0], node(TEXTS[0], 0)
    assert (hit.node_id, hit.ref_doc_id) == (written.node_id, ID)
    assert hit.get_content() == TEXTS[0]
    assert hit.metadata == written.metadata


def test_vectors_are_given_back_by_node(store: CollectionStore) -> None:
    found = vectors(store)
    assert set(found) == {f"{number:032x}" for number in range(3)}
    assert found[f"{2:032x}"] == pytest.approx(node(TEXTS[2], 2).embedding, abs=1e-6)


def test_rows_are_written_in_calls_that_a_server_takes(
    store: CollectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    call = CollectionStore._call

    def count(self: CollectionStore, method: str, **arguments: Any) -> Any:
        calls.append(len(arguments["data"]))
        return call(self, method, **arguments)

    monkeypatch.setattr(CollectionStore, "_call", count)
    monkeypatch.setattr(rows, "BATCH_BYTES", 10_000)
    store.add([node("x" * 6_000, number) for number in range(3)])
    store.add([node("x", number) for number in range(3, 6)])
    assert calls == [1, 1, 1, 3]


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", RowsRefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service", VectorStoreError),
    ],
)
def test_what_grpc_says_is_an_error_of_the_store(
    store: CollectionStore,
    monkeypatch: pytest.MonkeyPatch,
    code: grpc.StatusCode,
    details: str,
    kind: type[VectorStoreError],
) -> None:
    class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(code, details)
            )

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, [Refusing()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/any/thing")
            monkeypatch.setattr(store.client, "query", lambda **_: call(b""))
            with pytest.raises(kind, match=details):
                store.count()
        server.stop(None).wait()


def test_deleting_a_document_leaves_the_others(store: CollectionStore) -> None:
    other = "f" * 32
    store.add([node("another document", 9, other)])
    store.delete(ID)
    assert store.count() == 1
    assert list(store.documents()) == [other]


def test_hits_bring_no_texts_along(store: CollectionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    search = store.client.search

    def seen(**arguments: Any) -> Any:
        hits = search(**arguments)
        found.extend(hits)
        return hits

    monkeypatch.setattr(store.client, "search", seen)
    question = VectorStoreQuery(
        query_embedding=[1.0] * 64, query_str="passage", mode=VectorStoreQueryMode.HYBRID
    )
    assert store.query(question).nodes
    assert {key for hits in found for hit in hits for key in hit["entity"]} <= {"id"}


def test_documents_are_listed_by_what_their_rows_are_like(store: CollectionStore) -> None:
    other = "f" * 32
    store.add([node("another document", 9, other)])
    like = MetadataFilters(filters=[MetadataFilter(key="doc_id", value=other)])
    assert list(store.documents(like)) == [other]
    assert len(store.documents(MetadataFilters(filters=[]))) == len(store.documents()) == 2


def test_deleting_a_document_leaves_rows_that_another_program_wrote(
    store: CollectionStore, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = TextNode(id_="5b5ccf2e-6a5e-4c3a-9f2f-0d2f5d8f9f0e", text="theirs")
    theirs.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ID)}
    theirs.embedding = [0.0] * 63 + [1.0]
    store.add([theirs])
    store.delete(ID)
    assert [each.node_id for each in store.get_nodes(filters=all_of(ID))] == [theirs.node_id]
    assert f"left 1 rows of the document {ID}" in caplog.text
    store.delete(ID)  # there is none of ours now: LlamaIndex's own way
    assert store.count() == 0


def all_of(document: str) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key="doc_id", value=document)])


def test_deleting_rows_by_id(store: CollectionStore) -> None:
    store.delete_ids([f"{0:032x}", f"{2:032x}"])
    assert search(store, "anything") == [TEXTS[1]]


def test_modes_that_are_not_there_are_refused(store: CollectionStore) -> None:
    vector = FakeEmbedder()._get_query_embedding("x")
    query = VectorStoreQuery(
        query_embedding=vector, similarity_top_k=1, mode=VectorStoreQueryMode.SVM
    )
    with pytest.raises(InputError, match="'svm'") as caught:
        store.query(query)
    assert isinstance(caught.value, ValueError), "what LlamaIndex's stores raise"


@pytest.mark.parametrize(
    ("option", "use"),
    [
        ("milvus_partition_name", lambda store, given: store.add([], **given)),
        ("milvus_partition_name", lambda store, given: store.delete(ID, **given)),
        ("milvus_partition_names", lambda store, given: store.get_nodes([ID], **given)),
        ("milvus_partition_name", lambda store, given: store.delete_nodes([ID], **given)),
        ("string_expr", lambda store, given: store.query(VectorStoreQuery(), **given)),
    ],
)
def test_options_that_would_mean_nothing_are_refused(
    option: str, use: Callable[[CollectionStore, dict[str, str]], Any], store: CollectionStore
) -> None:
    with pytest.raises(ValueError, match=f"does not support the option {option}"):
        use(store, {option: "something"})
    assert store.count() == 3


def test_options_of_llama_index_that_mean_something_do(store: CollectionStore) -> None:
    folder = collection_folder(store._uri, store.collection_name)
    store.add([node("bread and graphs", 3)])
    assert list((folder / "wal").glob("*.arrow"))
    store.add([node("bread and edges", 4)], force_flush=True)
    assert not list((folder / "wal").glob("*.arrow"))
    query = VectorStoreQuery(
        query_embedding=FakeEmbedder()._vector("bread"),
        similarity_top_k=3,
        mode=VectorStoreQueryMode.MMR,
    )
    alike, varied = (store.query(query, mmr_threshold=share).ids for share in (1.0, 0.0))
    assert alike != varied
    few = store.query(query, mmr_threshold=0.0, mmr_prefetch_k=3).ids
    same = store.query(query, mmr_threshold=0.0, mmr_prefetch_factor=1.0).ids
    assert set(few or ()) == set(same or ()) == set(alike or ()), "the nearest three, no others"


def test_a_query_searches_only_the_rows_that_it_names(store: CollectionStore) -> None:
    other = node("graphs of bread", 3, document="f" * 32)
    other.metadata["path"] = 'a" or "'
    store.add([other])
    vector = FakeEmbedder()._get_query_embedding("x")

    def found(**query: Any) -> list[str]:
        asked = VectorStoreQuery(query_embedding=vector, similarity_top_k=9, **query)
        nodes = store.query(asked).nodes
        assert nodes is not None
        assert asyncio.run(store.aquery(asked)).ids == [hit.node_id for hit in nodes]
        return sorted(hit.get_content() for hit in nodes)

    filters = MetadataFilters(filters=[MetadataFilter(key="path", value='a" or "')])
    assert found(filters=filters) == ["graphs of bread"]
    assert found(doc_ids=[ID]) == sorted(TEXTS)
    assert found(doc_ids=[ID, "f" * 32]) == sorted([*TEXTS, "graphs of bread"])
    assert found(doc_ids=['x"] or doc_id not in ["']) == []
    assert found(node_ids=[f"{0:032x}", f"{3:032x}"]) == [TEXTS[0], "graphs of bread"]
    assert found(node_ids=[f"{0:032x}"], filters=filters) == []


def test_a_node_written_again_has_only_what_it_has_now(store: CollectionStore) -> None:
    changed = node(TEXTS[0], 0)
    changed.metadata["page"] = 3
    store.add([changed])
    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=3)])
    query = VectorStoreQuery(query_embedding=[1.0] * 64, similarity_top_k=9, filters=filters)
    assert store.query(query).ids == [f"{0:032x}"]
    store.add([node(TEXTS[0], 0)])
    assert store.query(query).ids == []
    assert store.count() == 3


def test_async_search_works_in_two_event_loops(store: CollectionStore) -> None:
    vector = FakeEmbedder()._get_query_embedding(TEXTS[0])
    query = VectorStoreQuery(query_embedding=vector, similarity_top_k=1)
    for _ in range(2):
        found = asyncio.run(store.aquery(query))
        assert found.nodes is not None
        assert found.nodes[0].get_content() == TEXTS[0]


def test_global_settings_are_not_touched(store: CollectionStore) -> None:
    assert Settings._embed_model is None
    assert Settings._llm is None


# --- what made it --------------------------------------------------------------------------------


AS_MADE = {"chunking.size": 40, "chunking.overlap": 0}


def assert_refused(config: Config, uses: Sequence[Callable[[Config], Any]], *said: str) -> None:
    for use in uses:
        with pytest.raises(CollectionMismatchError) as caught:
            use(config)
        for part in said:
            assert part in caught.value.message
        key = said[0].split()[2]
        for way in (
            f"set {key} back",
            "--collection rag_app_2 (vector_store.collection)",
            "rag-app collections drop rag_app",
            "rename rag_app rag_app_old",
        ):
            assert way in caught.value.remedy


@pytest.mark.parametrize(
    ("overrides", "key", "made", "says"),
    [
        ({"embedding.normalize": False}, "embedding.normalize", "True", "False"),
        ({"embedding.model": "a/b"}, "embedding.model", "'package:gt_all", "'a/b'"),
        ({"retrieval.language": "german"}, "retrieval.language", "'auto'", "'german'"),
    ],
)
def test_collection_of_another_configuration_is_refused(
    overrides: dict[str, Any], key: str, made: str, says: str, ingested: Config, make_config: Any
) -> None:
    other = make_config(**{**AS_MADE, **overrides})
    assert_refused(
        other,
        (open_store, find_store, lambda config: ingest(config, ["."]), list_documents),
        f"made with {key} = {made}",
        f"the configuration (command line) says {says}",
    )


def test_words_that_another_version_stemmed_are_told_of_once(
    ingested: Config,
    make_config: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_store(make_config(**AS_MADE))
    assert not caplog.records
    before = made_by.stemmer_version()
    monkeypatch.setattr(made_by, "stemmer_version", lambda: "PyStemmer 0.9")
    for _ in range(2):
        open_store(make_config(**AS_MADE))
    (warned,) = caplog.messages
    assert f"'rag_app' were stemmed by {before}, and here is PyStemmer 0.9" in warned
    assert f"pip install '{before.replace(' ', '==')}.*'" in warned


@pytest.mark.parametrize(
    ("overrides", "key", "made", "says"),
    [
        ({"chunking.size": 100}, "chunking.size", "40", "100"),
        ({"chunking.overlap": 5}, "chunking.overlap", "0", "5"),
        ({"chunking.unit": "characters"}, "chunking.unit", "'tokens'", "'characters'"),
    ],
)
def test_how_documents_are_split_matters_to_an_ingest_alone(
    overrides: dict[str, Any], key: str, made: str, says: str, ingested: Config, make_config: Any
) -> None:
    other = make_config(**{**AS_MADE, **overrides})
    assert_refused(
        other,
        (lambda config: ingest(config, ["."]), lambda config: open_store(config, exact=True)),
        f"made with {key} = {made}",
        f"the configuration (command line) says {says}, and would be a mixture",
    )
    assert len(list_documents(other)) == 3
    (best, *_) = build_retriever(other).retrieve("What is the maximum degree of a node?")
    assert "M is the maximum degree" in best.text
    (info,) = list_collections(other)
    assert info.searchable


def test_a_collection_of_an_earlier_version_is_only_searched(
    store: CollectionStore, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_by, "SCHEMA_VERSION", 99)
    assert open_store(make_config()).count() == 3
    with pytest.raises(
        CollectionMismatchError, match=r"rows of version \d+, .*writes 99"
    ) as caught:
        open_store(make_config(), exact=True)
    assert "rag-app migrate" in caught.value.remedy
    monkeypatch.setattr(made_by, "SCHEMA_VERSION", 1)
    with pytest.raises(CollectionMismatchError) as caught:
        open_store(make_config())
    assert "rag-app collections drop rag_app" in caught.value.remedy


def test_collection_of_another_program_is_refused(make_config: MakeConfig, here: Path) -> None:
    config = make_config()
    Path(config.vector_store.uri).parent.mkdir()
    client = MilvusClient(config.vector_store.uri)
    client.create_collection("rag_app", dimension=8)
    with pytest.raises(CollectionMismatchError, match="was not made by rag_app") as caught:
        open_store(config)
    assert "--collection rag_app_2 (vector_store.collection)" in caught.value.remedy


def test_two_collections_share_a_database(
    ingested: Config, docs: Path, make_config: MakeConfig
) -> None:
    other = make_config(vector_store__collection="other", chunking__size=100)
    ingest(other, [docs / "index.md"])
    assert [document.path for document in list_documents(other)] == ["index.md"]
    assert len(list_documents(ingested)) == 3


def test_nothing_ingested_yet_is_an_error_with_the_remedy(make_config: MakeConfig) -> None:
    config = make_config()
    assert find_store(config) is None
    with pytest.raises(InputError, match="there is no collection 'rag_app'") as caught:
        open_store(config)
    assert "rag-app ingest" in caught.value.remedy
    assert not Path(config.vector_store.uri).exists(), "asking must not make a database"


# --- the index -----------------------------------------------------------------------------------


def test_an_index_that_differs_is_told_and_searched(
    store: CollectionStore, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    reopened = open_store(make_config(index__type="FLAT"))
    assert "the index is AUTOINDEX" in caplog.text
    assert "not as configured (type AUTOINDEX → FLAT)" in caplog.text
    assert "rag-app index apply" in caplog.text
    assert caplog.text.count("rag-app index apply") == 1
    assert search(reopened, "yeast bread", top_k=1) == [TEXTS[2]]


# --- who holds it --------------------------------------------------------------------------------

HOLD = """
import sys
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException
client = MilvusClient(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_database_that_another_process_holds_is_an_error(
    store: CollectionStore, make_config: MakeConfig
) -> None:
    config = make_config()
    release(config.vector_store.uri)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, config.vector_store.uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        try:
            with pytest.raises(VectorStoreError) as caught:
                open_store(config)
        finally:
            holder.stdin.close()
    assert config.vector_store.uri in caught.value.message
    if sys.platform == "linux":
        assert f"pid {holder.pid} (" in caught.value.message
        assert "MilvusClient(sys.argv[1])" in caught.value.message
    assert "--wait 600" in caught.value.remedy
    assert "vector_store.uri" in caught.value.remedy
    assert open_store(config).count() == 3


def test_a_file_is_no_database(make_config: MakeConfig, here: Path) -> None:
    (here / "plain.db").write_text("not a database")
    config = make_config(vector_store__uri="plain.db")
    with pytest.raises(VectorStoreError, match=r"plain\.db, a file") as caught:
        open_store(config)
    assert "vector_store.uri" in caught.value.remedy
    assert (here / "plain.db").read_text() == "not a database"


def test_a_folder_that_cannot_be_made_is_an_error(make_config: MakeConfig, here: Path) -> None:
    (here / "file").write_text("")
    with pytest.raises(VectorStoreError, match="cannot be made") as caught:
        create_store(make_config(vector_store__uri="file/x.db"), dimension=8)
    assert "vector_store.uri" in caught.value.remedy


def test_server_that_is_not_there_is_an_error_in_time(make_config: MakeConfig) -> None:
    config = make_config(vector_store__uri="http://127.0.0.1:9", vector_store__timeout=2.0)
    with pytest.raises(
        VectorStoreError, match=r"http://127\.0\.0\.1:9 cannot be reached"
    ) as caught:
        open_store(config)
    assert "vector_store.uri" in caught.value.remedy


def test_a_database_that_cannot_be_looked_for_is_an_error(make_config: MakeConfig) -> None:
    with ordinary_user() as home:
        closed = home / "closed"
        closed.mkdir(mode=0o000)
        config = make_config(vector_store__uri=str(closed / "milvus.db"))
        for use in (open_store, list_collections):
            with pytest.raises(
                VectorStoreError, match=r"closed/milvus\.db cannot be looked for: Perm"
            ):
                use(config)
        closed.chmod(0o700)
