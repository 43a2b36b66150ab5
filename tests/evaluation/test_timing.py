"""What a question's time is spent on, inside retrievers that know nothing of the stopwatch."""

import time

import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rag_app.evaluation.timing import STAGES, Stopwatch, stages_traced
from tests.conftest import FakeEmbedder

SECONDS = 0.02


class SlowRerank(BaseNodePostprocessor):
    fails: bool = False

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        time.sleep(SECONDS)
        if self.fails:
            raise ValueError("no model")
        return nodes


class SlowEmbedder(FakeEmbedder):
    def _get_query_embedding(self, query: str) -> list[float]:
        time.sleep(SECONDS)
        return super()._get_query_embedding(query)


NODES = [NodeWithScore(node=TextNode(text="a"))]


def test_embedding_and_reranking_are_told_apart() -> None:
    embedder, reranker = SlowEmbedder(model_name="slow"), SlowRerank()
    with stages_traced() as spans:
        embedder.get_query_embedding("what?")
        reranker.postprocess_nodes(NODES, query_str="what?")
        reranker.postprocess_nodes(NODES, query_str="what?")
        seconds = spans.take()
        assert set(seconds) == {"embed", "rerank"} <= set(STAGES)
        assert SECONDS <= seconds["embed"] < 2 * SECONDS <= seconds["rerank"] + SECONDS
        assert spans.take() == {}
    embedder.get_query_embedding("what?")
    assert spans.take() == {}, "it listens no longer"


def test_a_stage_that_fails_takes_no_time() -> None:
    with stages_traced() as spans:
        with pytest.raises(ValueError, match="no model"):
            SlowRerank(fails=True).postprocess_nodes(NODES, query_str="what?")
        assert spans.take() == {}


def test_stopwatch_adds_up() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("pack"):
            time.sleep(SECONDS)
    assert watch.ms["pack"] >= 2000 * SECONDS
