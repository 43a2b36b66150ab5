"""A retrieval mode is one record: all that depends on the mode asks it."""

from pathlib import Path
from typing import cast

import pytest
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

from rag_app.app import RagApp
from rag_app.config.sections import RetrievalSection
from rag_app.doctor import examine
from rag_app.embedding.base import Embedder
from rag_app.errors import ConfigError
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.backend import Backend
from rag_app.search.modes import MODES, Asked, Hit, Mode, Searchable, find_mode
from tests.conftest import FakeEmbedder, MakeConfig, make_files

FILES = {"first.md": "Bread needs flour.", "second.md": "Bread needs time.", "third.md": "Graphs."}


class NeverAsked(FakeEmbedder):
    def embed_queries(self, questions: object) -> list[list[float]]:
        raise AssertionError("a mode that needs no vectors embeds nothing")

    def _get_query_embedding(self, query: str) -> list[float]:
        raise AssertionError("a mode that needs no vectors embeds nothing")


def worst_first(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    found = rows.search_words(asked, section.candidates)
    return [hits[::-1][: section.similarity_top_k] for hits in found]


@pytest.fixture
def _backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    mode = Mode(
        worst_first,
        needs_vectors=False,
        needs_words=True,
        takes_candidates=True,
        query_modes=("svm",),
    )
    monkeypatch.setitem(MODES.own, "backwards", mode)


@pytest.mark.usefixtures("fake_embedder", "_backwards")
def test_another_record_is_all_that_another_mode_takes(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    ingest(make_config(), [make_files(tmp_path / "docs", dict(FILES))])
    question = "does bread need flour?"
    with RagApp(
        make_config(retrieval__mode="backwards"), embedder=cast(Embedder, NeverAsked())
    ) as app:
        worst, best = app.retriever().retrieve(question)
        assert (worst.metadata["path"], best.metadata["path"]) == ("second.md", "first.md")
        query = VectorStoreQuery(
            query_str=question, mode=VectorStoreQueryMode.SVM, similarity_top_k=1
        )
        assert app.store.query(query).ids == [worst.node_id]
    with pytest.raises(ConfigError, match=r"retrieval\.candidates = 3"):
        make_config(retrieval__mode="backwards", retrieval__candidates=3)
    with pytest.raises(ConfigError, match=r"scores of retrieval\.mode = backwards"):
        make_config(retrieval__mode="backwards", retrieval__min_score=0.5)


@pytest.mark.usefixtures("fake_embedder")
@pytest.mark.parametrize("mode", MODES)
def test_an_old_server_is_told_of_by_the_modes_that_need_words(
    mode: str, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(make_config(), [make_files(tmp_path / "docs", dict(FILES))])
    monkeypatch.setattr(Backend, "counts_words", False)
    checks = {check.name: check for check in examine(make_config(retrieval__mode=mode))}
    assert checks["milvus"].ok is not find_mode(mode).needs_words


@pytest.mark.usefixtures("here")
def test_an_unknown_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"retrieval\.mode .*'hybird'") as caught:
        load_config(overrides={"retrieval.mode": "hybird"})
    assert "dense, hybrid, mmr, text" in caught.value.remedy


def test_every_name_of_llama_index_means_one_mode() -> None:
    names = [name for mode in MODES.values() for name in mode.query_modes]
    assert len(names) == len(set(names))
    assert set(names) <= {each.value for each in VectorStoreQueryMode}
