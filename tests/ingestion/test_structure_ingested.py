"""What nodes know of their place, from a folder to answers and lists."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.build import build_query_engine, build_retriever
from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import show_document
from tests.conftest import FakeEmbedder, make_files

GUIDE = """# Handbook

## Holidays

### Requests

Ask your manager two weeks before. The form is on the second floor.

### Payment

Ask the office for the form, which is on the third floor.

## Travel

### Payment

Ask the desk for the receipts, which are on the fourth floor.
"""
FILLING = "\n\n".join(f"Paragraph {n} says something else, about shelf {n}." for n in range(30))


@pytest.fixture
def config(fake_embedder: FakeEmbedder, here: Path) -> Config:
    overrides = {
        "vector_store.uri": str(here / "structure.db"),
        "chunking.overlap": 0,
        "chunking.size": 24,
        "retrieval.mode": "text",
        "retrieval.similarity_top_k": 2,
    }
    return load_config(overrides=overrides)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_files(tmp_path / "docs", {"guide.md": GUIDE, "other.md": FILLING})


def test_headings_reach_words_answers_and_lists(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    # Two passages are about payment; only their headings tell which is about travel.
    best, *_ = build_retriever(config).retrieve("travel payment")
    assert best.metadata["headings"] == "Handbook › Travel › Payment"
    response = build_query_engine(config).query("travel payment receipts")
    assert response.metadata is not None
    (first,) = (s for s in response.metadata["sources"] if "receipts" in s["text"])
    assert first["headings"] == "Handbook › Travel › Payment"
    shown = show_document(config, "guide.md")["node_texts"]
    assert "\n\n".join(node["text"] for node in shown) == GUIDE.strip()


def test_commands_tell_the_headings(
    config: Config, folder: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config, [folder])
    monkeypatch.setenv("RAG_APP_VECTOR_STORE__URI", config.vector_store.uri)
    monkeypatch.setenv("RAG_APP_RETRIEVAL__MODE", "text")
    monkeypatch.setenv("RAG_APP_LLM__EXTRACTIVE__MIN_SIMILARITY", "-1")
    path = "Handbook › Travel › Payment"
    assert path in run("documents", "show", "guide.md").stdout
    assert path in run("retrieve", "travel payment receipts").stdout
    assert path in run("query", "travel payment receipts").stdout


def test_stored_spans_hold_the_passages(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    store = open_store(config)
    (document,) = (d for d in store.documents().values() if d.path == "guide.md")
    nodes = store.nodes_of(document.id)
    assert len(nodes) == 3
    for node in nodes:
        assert GUIDE[node.start_char_idx : node.end_char_idx] == node.text


def test_another_context_is_no_mixture(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    without = config.model_copy(
        update={"chunking": config.chunking.model_copy(update={"contextualize": "none"})}
    )
    assert build_retriever(without).retrieve("travel payment")
    with pytest.raises(CollectionMismatchError, match=r"chunking\.contextualize = 'headings'"):
        ingest(without, [folder])


def test_a_passage_under_another_heading_is_embedded_again(config: Config, folder: Path) -> None:
    ingest(config, [folder])
    (folder / "guide.md").write_text(GUIDE.replace("## Travel", "## Journeys"))
    report = ingest(config, [folder])
    assert (report.nodes_embedded, report.nodes_reused) == (1, 2)
    (best, *_) = build_retriever(config).retrieve("journeys payment")
    assert best.metadata["headings"] == "Handbook › Journeys › Payment"


def test_pieces_are_found_and_the_whole_is_handed_over(config: Config, tmp_path: Path) -> None:
    first = " ".join("abcdefghijklmnopqrs") + "."
    second = " ".join("0123456789") + " t u v w x y z."
    text = f"# Letters\n\n{first}\n\n{second}"
    folder = make_files(tmp_path / "letters", {"a.md": text})
    ingest(config, [folder])
    (passage,) = build_retriever(config).retrieve("u v w")
    assert first in passage.text
    assert second in passage.text
    chunking = config.chunking.model_copy(update={"parents": False})
    pieces = config.model_copy(update={"chunking": chunking})
    with pytest.raises(CollectionMismatchError, match=r"chunking\.parents"):
        ingest(pieces, [folder])
