"""A cross-encoder on a real vLLM pooling server, against the same one in this process."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import SecretStr

from rag_app import build_retriever, ingest
from rag_app.config.reranker import RerankerSection
from rag_app.config.sections import LLMSection
from rag_app.errors import ServiceError
from rag_app.llms.serve import ServerCommand, server_command
from rag_app.retrieval.reranker import build_reranker, find_reranker
from tests.conftest import FakeEmbedder, MakeConfig, make_files
from tests.cross_encoder import READS, make_cross_encoder
from tests.llms.conftest import KEY, Server

QUESTION = "Who may use the work?"
TEXTS = [
    "Grant of a patent licence.",
    "Bread needs flour.",
    "Redistribution of derivative works.",
    "You may add your own notice.",
]
TOO_LONG = "licence work " * READS
KEY_VARIABLE = "RAG_APP_RETRIEVAL__RERANKER__API_KEY"


@pytest.fixture(scope="module")
def model(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`llama` skips where vLLM is not installed."""
    return make_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


class PoolingServer(Server):
    """What ``rag-app llm serve`` becomes, without the 12 s that it checks arguments for."""

    def command(self) -> ServerCommand:
        engine = {"served_model_name": "tiny", **self.engine}
        section = LLMSection(
            model=str(self.model), base_url=self.url, api_key=SecretStr(KEY), engine=engine
        )
        return server_command(section)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    engine = {"dtype": "float32", "enforce_eager": True, "runner": "pooling"}
    server = PoolingServer(model, tmp_path_factory.mktemp("pooling") / "log", engine)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def served(server: Server, **values: Any) -> RerankerSection:
    return RerankerSection(**{"base_url": server.url, "api_key": SecretStr(KEY), **values})


def rank(
    section: RerankerSection, question: str = QUESTION, texts: list[str] = TEXTS, top_n: int = 10
) -> list[tuple[str, float]]:
    reranker = build_reranker(section, top_n)
    assert reranker is not None
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    found = reranker.postprocess_nodes(nodes, query_str=question)
    return [(node.text, node.score or 0.0) for node in found]


@pytest.mark.parametrize("name", ["tiny", ""])
def test_scores_are_those_of_this_process(server: Server, model: Path, name: str) -> None:
    expected = rank(RerankerSection(model=str(model)))
    found = rank(served(server, model=name))
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([s for _, s in expected], abs=1e-4)
    assert [text for text, _ in rank(served(server), top_n=2)] == [t for t, _ in found[:2]]


@pytest.mark.parametrize("question", [QUESTION, TOO_LONG])
def test_what_is_too_long_is_cut_as_in_this_process(
    server: Server, model: Path, question: str
) -> None:
    texts = [*TEXTS, TOO_LONG, "bread " + TOO_LONG]
    expected = dict(rank(RerankerSection(model=str(model)), question, texts))
    assert dict(rank(served(server), question, texts)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("key", "match"), [("wrong", "refuses the key"), ("", "asks for an API key")]
)
def test_keys(server: Server, key: str, match: str) -> None:
    with pytest.raises(ServiceError, match=match) as caught:
        rank(served(server, api_key=SecretStr(key)))
    assert KEY_VARIABLE in caught.value.remedy
    assert KEY not in str(caught.value)


def test_a_model_that_it_does_not_serve(server: Server) -> None:
    with pytest.raises(ServiceError, match="`nope` does not exist") as caught:
        rank(served(server, model="nope"))
    assert "retrieval.reranker.model" in caught.value.remedy


def test_a_server_that_generates_is_no_reranker(vllm_server: Server) -> None:
    with pytest.raises(ServiceError, match="404") as caught:
        rank(served(vllm_server))
    assert "llm.engine.runner=pooling" in caught.value.remedy


def test_it_is_found(server: Server) -> None:
    assert find_reranker(served(server)) == f"tiny, served at {server.url}"


def test_a_retriever_asks_it(
    server: Server,
    model: Path,
    fake_embedder: FakeEmbedder,
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {f"{number}.txt": text for number, text in enumerate(TEXTS)}
    ingest(make_config(), [make_files(tmp_path / "docs", dict(files))])
    here = build_retriever(make_config(retrieval__reranker__model=str(model)))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    there = build_retriever(make_config(retrieval__reranker__base_url=server.url))

    def paths(nodes: list[NodeWithScore]) -> list[str]:
        return [node.metadata["path"] for node in nodes]

    expected = paths(here.retrieve(QUESTION))
    assert len(expected) == len(files)
    assert paths(there.retrieve(QUESTION)) == expected
    for _ in range(2):  # from any event loop
        assert paths(asyncio.run(there.aretrieve(QUESTION))) == expected
    assert [paths(nodes) for nodes in there.retrieve_each([QUESTION] * 2)] == [expected] * 2


def test_stopped_in_between(server: Server) -> None:
    """The last test: the server is gone after it."""
    section = served(server)
    reranker = build_reranker(section, 5)
    assert reranker is not None
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    assert reranker.postprocess_nodes(nodes, query_str=QUESTION)
    server.kill()
    began = time.monotonic()
    with pytest.raises(ServiceError, match="cannot be reached"):
        reranker.postprocess_nodes(nodes, query_str=QUESTION)
    assert time.monotonic() - began < 10
