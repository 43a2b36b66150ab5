"""Which Milvus it is, and what it can do: Milvus Lite as a server of its own is still Lite."""

import os
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from rag_app import RagApp
from rag_app.config.index_types import lite_types
from rag_app.config.loader import override
from rag_app.config.sections import Config
from rag_app.errors import ConfigError
from rag_app.index.apply import apply_index, show_index
from rag_app.index.bench.bench import measure_indexes
from rag_app.index.bench.vectors import clustered_vectors
from rag_app.ingestion.run import ingest
from rag_app.milvus.admin import list_collections
from rag_app.milvus.backend import Backend, backend_of
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import list_documents, remove_documents
from tests.conftest import MakeConfig, make_files
from tests.milvus.test_store import node


@pytest.fixture
def config(shared_lite: str, make_config: MakeConfig, request: pytest.FixtureRequest) -> Config:
    name = request.node.name.split("[")[0]
    small = {"chunking.size": 40, "chunking.overlap": 0}
    return make_config(
        **{"vector_store.uri": shared_lite, "vector_store.collection": name, **small}
    )


def test_a_shared_lite_is_known_by_its_version(config: Config) -> None:
    client = MilvusClient(config.vector_store.uri)
    backend = backend_of(client, config.vector_store.uri, 10)
    assert (backend.is_lite, backend.has_files) == (True, False)
    assert str(backend).startswith("Milvus Lite 3.")
    assert backend_of(client, "asked once", 10) is backend
    client.close()


@pytest.mark.usefixtures("fake_embedder")
def test_documents_of_a_shared_lite_are_ingested_searched_and_deleted(
    config: Config, docs: Path
) -> None:
    report = ingest(config, [docs])
    assert len(report.new) == 3
    with RagApp(config) as app:
        for mode in ("dense", "text", "hybrid", "mmr"):
            found = app.retriever(mode=mode, filter='path contains "bread"').retrieve("yeast dough")
            assert {each.metadata["path"] for each in found} == {"kitchen/bread.txt"}, mode
        aliased = app.store.client
        aliased.create_alias(config.vector_store.collection, "other_name")
    (listed,) = [info for info in list_collections(config) if info.configured]
    assert (listed.aliases, listed.index["type"]) == (("other_name",), "AUTOINDEX")
    make_files(docs, {"kitchen/bread.txt": "Bread is baked.\n"})
    assert ingest(config, [docs]).changed == ("kitchen/bread.txt",)
    remove_documents(config, ["index.md"])
    assert [each.path for each in list_documents(config)] == [
        "guide/consistency.html",
        "kitchen/bread.txt",
    ]


@pytest.mark.usefixtures("fake_embedder")
def test_the_last_app_closes_the_connection_to_a_server(config: Config, docs: Path) -> None:
    # By another name: a connection that no other test has.
    uri = config.vector_store.uri.replace("127.0.0.1", "localhost")
    config = override(config, {"vector_store.uri": uri})
    before = sockets()
    ingest(config, [docs])
    with RagApp(config) as only:
        only.retriever().retrieve("yeast dough")
    assert sockets() == before
    with RagApp(config) as first:
        found = first.retriever().retrieve("yeast dough")
        with RagApp(config) as second:
            second.retriever().retrieve("yeast dough")
        assert first.retriever().retrieve("yeast dough") == found, "it is shared, and stays"
        assert sockets() > before
    assert sockets() == before
    with RagApp(config) as third:
        assert third.retriever().retrieve("yeast dough") == found
    theirs = MilvusClient(config.vector_store.uri)
    RagApp(config).close()
    with RagApp(config) as fourth:
        fourth.retriever().retrieve("yeast dough")
    assert theirs.list_collections(), "another program's stays"
    theirs.close()


def sockets() -> int:
    """Count this process's connections."""
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sum(1 for link in links if os.path.lexists(link) and "socket" in str(link.readlink()))


@pytest.mark.usefixtures("fake_embedder")
def test_a_row_written_again_has_only_what_it_has_now(config: Config, docs: Path) -> None:
    ingest(config, [docs])
    store = open_store(config)
    for extra in ({"draft": "yes"}, {}):
        one = node("a text", 7)
        one.metadata |= extra
        store.add([one])
    (row,) = store._rows(f'id == "{one.node_id}"', ["*"])
    assert "draft" not in row


@pytest.mark.usefixtures("fake_embedder")
def test_an_index_of_a_shared_lite_has_the_parameters_that_were_asked_for(
    config: Config, docs: Path, make_config: MakeConfig, shared_lite: str
) -> None:
    ingest(config, [docs])
    name = config.vector_store.collection
    section = {"vector_store.uri": shared_lite, "vector_store.collection": name}
    hnsw = make_config(**section, **{"index.type": "HNSW", "index.params": {"M": 7}})
    assert apply_index(hnsw).changes
    shown = show_index(hnsw)
    assert shown.built["params"] == {"M": 7, "efConstruction": 200}
    assert shown.backend.startswith("Milvus Lite")
    described = open_store(hnsw).client.describe_index(name, "embedding")
    assert described["params"]["M"] == 7, "nested, as Lite reads them"
    never = make_config(**section, **{"index.type": "SCANN"})
    with pytest.raises(ConfigError, match=r"SCANN .*not built by Milvus Lite"):
        apply_index(never)


def test_a_benchmark_takes_the_types_that_a_shared_lite_builds(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_app.index.bench.bench.SWEEP", {})
    monkeypatch.setattr("rag_app.index.bench.bench.BATCHES", 1)
    vectors = clustered_vectors(60, 8)
    told = measure_indexes(config, vectors, vectors[:5], "vectors")
    assert tuple(found.type for found in told.measurements) == lite_types()
    assert {found.size for found in told.measurements} == {None}


@pytest.mark.parametrize(
    ("version", "words", "aliases"),
    [
        ("v2.3.5-lite", False, False),
        ("v2.4.1", False, True),
        ("2.5.0", True, True),
        ("master-20260101", True, True),
    ],
)
def test_what_a_server_can_do_goes_by_its_version(version: str, words: bool, aliases: bool) -> None:
    server = Backend("http://milvus:19530", version)
    assert (server.counts_words, server.lists_aliases) == (words, aliases)
    assert not server.is_lite
    assert not server.nests_params
    assert not server.insert_replaces
    assert str(server) == f"Milvus server {version}"
