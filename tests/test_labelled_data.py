"""Real documents and a real question, where the labelled data lies beside the checkout."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_app import app as query_engine
from rag_app.build import build_query_engine
from rag_app.config.paths import shipped_config
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.ingestion import run as ingestion
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import list_documents
from tests.conftest import release_databases

PAGES = Path(__file__).parents[2] / "shared/data/milvus_docs_html/docs"
QUESTION = "What do the parameters for HNSW mean?"

pytestmark = pytest.mark.skipif(
    not PAGES.is_dir(), reason="the labelled data is not beside the checkout, in ../shared/data"
)


@pytest.fixture(scope="module")
def milvus_docs(
    embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Config, int]]:
    """The configuration of a collection of the pages, and how many rows the ingest wrote."""
    folder = tmp_path_factory.mktemp("labelled")
    config = load_config(
        shipped_config(), "offline", {"vector_store.uri": str(folder / "milvus.db")}
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (ingestion, query_engine):
            patch.setattr(module, "build_embedder", lambda _section: embedder)
        report = ingest(config, [PAGES])
        yield config, report.rows
    release_databases(folder)


def texts(config: Config) -> list[str]:
    client = open_store(config).client
    rows = client.query("rag_app", filter='id != ""', output_fields=["text"], limit=10_000)
    return [row["text"] for row in rows]


def test_every_page_is_there(milvus_docs: tuple[Config, int]) -> None:
    config, rows = milvus_docs
    assert len(list_documents(config)) == len(list(PAGES.glob("*.html")))
    assert rows == len(texts(config)) > 200


def test_question_about_hnsw_is_answered_from_its_page(milvus_docs: tuple[Config, int]) -> None:
    response = build_query_engine(milvus_docs[0]).query(QUESTION)
    assert response.metadata is not None
    assert "index.html" in {source["file_name"] for source in response.metadata["sources"]}
    assert "“" in str(response)


def test_no_markup_buttons_or_scripts_reach_a_node(milvus_docs: tuple[Config, int]) -> None:
    for text in texts(milvus_docs[0]):
        lowered = text.lower()
        for noise in ("<svg", "<path", "<button", "<script", "copy page", "data:image", "<nav"):
            assert noise not in lowered


def test_tables_and_headings_reach_the_nodes(milvus_docs: tuple[Config, int]) -> None:
    everything = "\n".join(texts(milvus_docs[0]))
    assert "| --- |" in everything
    assert "\n## " in everything
    assert "```" in everything


def test_ingesting_again_adds_no_row(milvus_docs: tuple[Config, int]) -> None:
    config, rows = milvus_docs
    report = ingest(config, [PAGES])
    assert (report.rows, report.nodes_written, report.new) == (rows, 0, ())
