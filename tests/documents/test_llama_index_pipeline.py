"""Our readers and node parser in LlamaIndex's own pipelines; its postprocessors on our nodes."""

import asyncio
import logging
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import SimpleDirectoryReader, StorageContext, SummaryIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import NodeParser as LlamaIndexNodeParser
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import PrevNextNodePostprocessor
from llama_index.core.readers.base import BaseReader, ReaderConfig
from llama_index.core.schema import Document, NodeRelationship, TextNode, TransformComponent

from rag_app import (
    CollectionDocstore,
    DirectoryReader,
    NodeParser,
    RagApp,
    file_readers,
    ingest,
    load_config,
    open_store,
)
from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import create_store
from rag_app.schema import SkippedFile
from tests.conftest import FakeEmbedder, make_files
from tests.test_app import EchoLLM

from .hostile import document_xml, docx, page_pdf, paragraph

TEXT = "# Fruit\n\n" + "\n\n".join(f"Paragraph {n} tells of apple {n}." for n in range(24))
FILES: dict[str, str | bytes] = {
    "a.md": TEXT,
    "sub/b.docx": docx(document_xml(paragraph("Pears ripen in a cellar."))),
    "c.pdf": page_pdf(),
    "same.md": "The same.\n\n" * 40,
}


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path) -> Config:
    overrides = {"vector_store.uri": str(here / "pipeline.db"), "chunking.overlap": 0}
    return load_config(overrides={**overrides, "chunking.size": 24})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", FILES)


def parser_of(config: Config, embedder: FakeEmbedder) -> NodeParser:
    return NodeParser(config.chunking, embedder.tokenize, embedder.content_tokens)


def rows(store: CollectionStore) -> dict[str, dict[str, Any]]:
    return {row["id"]: dict(row) for row in store._rows('id != ""', ["*"])}


@pytest.fixture
def pipeline(config: Config, fake_embedder: FakeEmbedder) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[parser_of(config, fake_embedder), fake_embedder],
        vector_store=create_store(config, fake_embedder.dimension),
    )


@pytest.mark.parametrize("run", ["run", "arun", "readers"])
def test_pipeline_writes_what_an_ingest_would(
    run: str, config: Config, folder: Path, here: Path, pipeline: IngestionPipeline
) -> None:
    reader = DirectoryReader(section=config.documents)
    if run == "readers":
        pipeline.readers = [ReaderConfig(reader=reader, reader_kwargs={"paths": [folder]})]
        pipeline.run()
    elif run == "arun":
        asyncio.run(pipeline.arun(documents=asyncio.run(reader.aload_data([folder]))))
    else:
        pipeline.run(documents=reader.load_data([folder]))
    fresh = config.model_copy(
        update={"vector_store": config.vector_store.model_copy(update={"uri": str(here / "f.db")})}
    )
    ingest(fresh, [folder])
    assert rows(open_store(config)) == rows(open_store(fresh))
    report = ingest(config, [folder])
    assert (len(report.unchanged), report.nodes_written) == (len(FILES), 0)


def test_reader_tells_what_it_skips(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_files(folder, {"bad.docx": b"no archive", "empty.md": b""})
    skipped: list[SkippedFile] = []
    documents = DirectoryReader().load_data([folder], skipped=skipped)
    assert {document.metadata["path"] for document in documents} == set(FILES)
    assert {skip.path for skip in skipped} == {"bad.docx", "empty.md"}
    with caplog.at_level(logging.WARNING, "rag_app"):
        DirectoryReader().load_data([folder / "empty.md"])
    assert "skipped empty.md: empty" in caplog.text
    with pytest.raises(InputError, match="there is no file or folder"):
        DirectoryReader().load_data([folder / "nowhere"])


def test_readers_serve_llama_indexes_directory_reader(folder: Path) -> None:
    readers = file_readers()
    assert all(isinstance(reader, BaseReader) for reader in readers.values())
    assert {".md", ".docx", ".pdf", ".html", ".csv", ".ipynb"} <= set(readers)
    pickle.loads(pickle.dumps(readers))
    found = SimpleDirectoryReader(
        str(folder), recursive=True, file_extractor=readers, raise_on_error=True
    ).load_data()
    titles = {Path(each.metadata["file_path"]).name: each.metadata.get("title") for each in found}
    assert titles == {"a.md": "Fruit", "b.docx": None, "c.pdf": None, "same.md": None}
    assert any("Pears ripen" in document.text for document in found)


def test_node_parser_is_llama_indexes(fake_embedder: FakeEmbedder, config: Config) -> None:
    parser = parser_of(config, fake_embedder)
    assert isinstance(parser, LlamaIndexNodeParser | TransformComponent)
    documents = [Document(text=TEXT, id_="d"), Document(text="Short.", id_="e")]
    nodes = parser(documents)
    assert (
        nodes == parser.get_nodes_from_documents(documents) == asyncio.run(parser.acall(documents))
    )
    assert parser.to_dict()["size"] == 24
    (last,) = [node for node in nodes if node.ref_doc_id == "e"]
    assert {NodeRelationship.PREVIOUS, NodeRelationship.NEXT}.isdisjoint(last.relationships)
    bare = NodeParser(
        config.chunking,
        fake_embedder.tokenize,
        fake_embedder.content_tokens,
        include_metadata=False,
        include_prev_next_rel=False,
    )
    (one, *_) = bare([Document(text=TEXT, metadata={"author": "x"})])
    assert "author" not in one.metadata
    assert set(one.relationships) == {NodeRelationship.SOURCE}


def test_node_parser_splits_what_another_one_made(
    fake_embedder: FakeEmbedder, config: Config
) -> None:
    large = SentenceSplitter(chunk_size=100, chunk_overlap=0)
    nodes = IngestionPipeline(transformations=[large, parser_of(config, fake_embedder)]).run(
        documents=[Document(text=TEXT, id_="d")]
    )
    assert {node.ref_doc_id for node in nodes} == {"d"}
    assert len({node.node_id for node in nodes}) == len(nodes) > 3


def test_nodes_know_their_neighbours_when_they_are_found(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    with RagApp(config) as app:
        (document,) = [d for d in app.store.documents().values() if d.path == "a.md"]
        nodes = app.store.nodes_of(document.id)
        assert len(nodes) > 4
        for one, other in pairwise(nodes):
            assert one.next_node is not None
            assert other.prev_node is not None
            assert (one.next_node.node_id, other.prev_node.node_id) == (other.id_, one.id_)
        assert nodes[0].prev_node is None
        assert nodes[-1].next_node is None
        (hit,) = app.retriever(similarity_top_k=1, mode="dense").retrieve(nodes[2].text)
        assert hit.node.next_node == nodes[2].next_node
        (passage,) = app.retriever(similarity_top_k=1, expand=1, mode="dense").retrieve(
            nodes[2].text
        )
        assert passage.node.prev_node == nodes[1].prev_node
        assert passage.node.next_node == nodes[3].next_node


def test_changed_document_relates_its_nodes_anew(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    paragraphs = TEXT.split("\n\n")
    (folder / "a.md").write_text("\n\n".join([*paragraphs[:3], "Between.", *paragraphs[3:]]))
    ingest(config, [folder])
    store = open_store(config)
    (document,) = [each for each in store.documents().values() if each.path == "a.md"]
    nodes = store.nodes_of(document.id)
    for one, other in pairwise(nodes):
        assert one.next_node is not None
        assert one.next_node.node_id == other.id_


@pytest.fixture
def docstore(config: Config, folder: Path) -> CollectionDocstore:
    ingest(config, [folder])
    return CollectionDocstore(open_store(config))


def test_previous_and_next_nodes_are_added_to_the_contexts(
    config: Config, docstore: CollectionDocstore
) -> None:
    llm = EchoLLM()
    around = PrevNextNodePostprocessor(docstore=docstore, num_nodes=2, mode="both")
    with RagApp(config, llm=llm) as app:
        alone = app.query_engine(similarity_top_k=1, mode="dense").query(
            "Paragraph 12 tells of apple 12."
        )
        response = app.query_engine(
            similarity_top_k=1, mode="dense", node_postprocessors=[around]
        ).query("Paragraph 12 tells of apple 12.")
    (hit,) = alone.source_nodes
    positions = sorted(node.metadata["position"] for node in response.source_nodes)
    middle = hit.metadata["position"]
    assert positions == list(range(middle - 2, middle + 3))


def test_collection_is_a_document_store(docstore: CollectionDocstore, config: Config) -> None:
    store = open_store(config)
    document = next(each for each in store.documents().values() if each.path == "a.md")
    nodes = store.nodes_of(document.id)
    ids = [node.node_id for node in nodes]
    assert [node.get_content() for node in docstore.get_nodes(ids)] == [n.text for n in nodes]
    assert docstore.document_exists(ids[0])
    assert docstore.get_document(ids[0]) == asyncio.run(docstore.aget_document(ids[0]))
    assert docstore.get_document("nowhere", raise_error=False) is None
    assert docstore.get_document_hash(ids[0])
    info = docstore.get_ref_doc_info(document.id)
    assert info is not None
    assert set(info.node_ids) == set(ids)
    assert set(docstore.docs) == set(rows(store))
    assert set(docstore.get_all_ref_doc_info() or {}) == set(store.documents())
    index = SummaryIndex(docstore.get_nodes(ids), storage_context=StorageContext.from_defaults())
    assert len(index.as_retriever().retrieve("apple")) == len(ids)
    with pytest.raises(InputError, match="can only be read"):
        docstore.add_documents([TextNode(text="x")])
    with pytest.raises(InputError, match="can only be read"):
        docstore.delete_document(ids[0])


def test_the_documentations_example_runs(
    config: Config, folder: Path, fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    text = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
    part = text.split("## In LlamaIndex's own pipelines")[1].split("\n## ")[0]
    monkeypatch.setattr("rag_app.load_config", lambda: config)
    monkeypatch.setattr("rag_app.build_embedder", lambda _: fake_embedder)
    scope: dict[str, Any] = {}
    for block in part.split("```python\n")[1:]:
        exec(block.split("```")[0], scope)
    report = ingest(config, ["docs"])
    assert (len(report.unchanged), report.nodes_written) == (len(FILES), 0)
    assert scope["response"].source_nodes
