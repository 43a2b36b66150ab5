"""Searches, embeddings and reranking: OpenAI's vector stores, Dify, Jina's rerank."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from rag_app import app as wiring
from rag_app.config.sections import Config
from rag_app.index.apply import apply_index
from rag_app.load import override
from rag_app.server.keys import KeyFile
from tests.conftest import FakeEmbedder, words
from tests.server.conftest import Running, Serve
from tests.test_app import EchoLLM

HNSW = "What do the parameters M and efConstruction of HNSW mean?"


def test_vector_stores_are_the_collections(running: Running) -> None:
    client = running.openai()
    (store,) = client.vector_stores.list()
    assert (store.id, store.name) == ("rag_app", "rag_app")
    assert client.vector_stores.retrieve("rag_app").id == "rag_app"
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve("other")


def test_search_finds_passages_with_their_attributes(running: Running) -> None:
    found = list(running.openai().vector_stores.search("rag_app", query=HNSW, max_num_results=2))
    assert len(found) == 2
    assert found[0].filename == "index.md"
    assert "maximum degree" in found[0].content[0].text
    assert found[0].score >= found[1].score
    assert (found[0].attributes or {})["title"] == "Index types"
    assert found[0].file_id.startswith("file-")


def test_several_queries_take_turns(running: Running) -> None:
    page = running.openai().vector_stores.search(
        "rag_app", query=[HNSW, "What does bread need?"], max_num_results=2
    )
    assert [row.filename for row in page.data] == ["index.md", "bread.txt"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "type", "value": "html"}, {"consistency.html"}),
        ({"type": "in", "key": "file_name", "value": ["bread.txt"]}, {"bread.txt"}),
        ({"type": "in", "key": "size", "value": [1, 0.5]}, set()),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "ne", "key": "type", "value": "html"},
                    {"type": "or", "filters": [{"type": "gt", "key": "size", "value": 200}]},
                ],
            },
            {"index.md"},
        ),
        ({"type": "eq", "key": "path", "value": 'x") or (id != "'}, set()),
    ],
)
def test_openais_filters(running: Running, filters: Any, names: set[str]) -> None:
    page = running.openai().vector_stores.search("rag_app", query=HNSW, filters=filters)
    assert {row.filename for row in page.data} == names


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"query": ""}, 400),
        ({"query": []}, 400),
        ({"max_num_results": 51}, 400),
        ({"rewrite_query": True}, 400),
        ({"filters": {"type": "like", "key": "path", "value": "x"}}, 400),
        ({"filters": {"type": "gt", "key": "path", "value": 3}}, 400),
        ({"filters": {"type": "in", "key": "size", "value": [1, "x"]}}, 400),
        ({"filters": {"type": "in", "key": "size", "value": [10**400, 0.5]}}, 400),
        ({"ranking_options": {"score_threshold": 0.5}}, 400),
        ({"vector_store_id": "other"}, 404),
    ],
)
def test_wrong_searches_are_refused(running: Running, fields: Any, status: int) -> None:
    asked = {"vector_store_id": "rag_app", "query": HNSW, **fields}
    with pytest.raises(openai.APIStatusError) as raised:
        running.openai().vector_stores.search(**asked)
    assert raised.value.status_code == status


def test_query_is_rewritten_by_the_model(echoing: Running, llm: EchoLLM) -> None:
    llm.script.append("bread needs\nand more")
    page = echoing.openai().vector_stores.search(
        "rag_app", query="Could you tell me what goes into it?", rewrite_query=True
    )
    (prompt,) = llm.prompts
    assert "Could you tell me what goes into it?" in prompt
    assert page.data[0].filename == "bread.txt"


def test_index_is_changed_under_running_searches(running: Running) -> None:
    ended = threading.Event()

    def ask(_: int) -> int:
        client, asked = running.openai(), 0
        while not ended.is_set() or not asked:
            assert client.vector_stores.search("rag_app", query=HNSW).data[0].filename == "index.md"
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as threads:
        asking = threads.map(ask, range(3))
        try:
            for type_ in ("FLAT", "IVF_FLAT", "HNSW"):
                apply_index(override(running.service.config, {"index.type": type_}))
        finally:
            ended.set()
        assert min(asking) > 0


def test_threshold_where_scores_can_be_compared(ingested: Config, serve: Serve) -> None:
    with serve(ingested, retrieval__mode="dense") as server:
        client = server.openai()
        everything = client.vector_stores.search("rag_app", query=HNSW).data
        threshold = everything[0].score - 1e-6
        best = client.vector_stores.search(
            "rag_app", query=HNSW, ranking_options={"score_threshold": threshold}
        ).data
    assert len(best) < len(everything)
    assert [row.content[0].text for row in best] == [everything[0].content[0].text]


def test_dify_gets_what_it_documents(running: Running) -> None:
    asked: dict[str, Any] = {
        "knowledge_id": "rag_app",
        "query": HNSW,
        "retrieval_setting": {"top_k": 2, "score_threshold": 0.0},
    }
    with running.http() as client:
        records = client.post("/retrieval", json=asked).json()["records"]
        assert len(records) == 2
        assert records[0]["title"] == "Index types"
        assert records[0]["metadata"]["path"] == "index.md"
        assert None not in records[0]["metadata"].values()
        only = {"name": ["type"], "comparison_operator": "is", "value": "html"}
        filtered = client.post(
            "/retrieval", json={**asked, "metadata_condition": {"conditions": [only]}}
        ).json()["records"]
        assert {record["metadata"]["description"] for record in filtered} == {"html"}
        unknown = {**only, "comparison_operator": "start with"}
        refused = client.post(
            "/retrieval", json={**asked, "metadata_condition": {"conditions": [unknown]}}
        )
        assert refused.status_code == 400
        assert "'start with' is not supported" in refused.json()["error_msg"]
        absent = client.post("/retrieval", json={**asked, "knowledge_id": "other"})
        assert (absent.status_code, absent.json()["error_code"]) == (404, 2001)


def test_dify_without_a_key_gets_difys_errors(ingested: Config, serve: Serve) -> None:
    key = KeyFile(ingested.server.keys_file).add("dify")
    asked = {"knowledge_id": "rag_app", "query": HNSW}
    with serve(ingested) as server:
        for header, code in (("", 1001), ("Basic x", 1001), ("Bearer wrong", 1002)):
            with server.http(**({"Authorization": header} if header else {})) as client:
                refused = client.post("/retrieval", json=asked)
                assert (refused.status_code, refused.json()["error_code"]) == (401, code)
        with server.http(Authorization=f"Bearer {key}") as client:
            assert client.post("/retrieval", json=asked).json()["records"]


def test_embeddings_are_the_collections_own(running: Running, fake_embedder: FakeEmbedder) -> None:
    client = running.openai()
    coded = client.embeddings.create(model="rag_app", input=[HNSW, "bread"])  # base64 inside
    plain = client.embeddings.create(model="rag_app", input=HNSW, encoding_format="float")
    assert len(coded.data) == 2
    own = fake_embedder.get_query_embedding(HNSW)
    np.testing.assert_allclose(coded.data[0].embedding, own, rtol=1e-6)
    np.testing.assert_allclose(plain.data[0].embedding, own)
    assert plain.usage.prompt_tokens == len(fake_embedder.tokenize(HNSW))
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="other", input="x")
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="rag_app", input="x", dimensions=8)


class WordsInCommon(BaseNodePostprocessor):
    """Scores by shared words."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        assert query_bundle is not None
        asked = set(words(query_bundle.query_str))
        for node in nodes:
            node.score = float(len(asked & set(words(node.node.get_content(MetadataMode.NONE)))))
        return sorted(nodes, key=lambda node: -(node.score or 0.0))


@pytest.fixture
def reranking(ingested: Config, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(wiring, "build_reranker", lambda *_: WordsInCommon())
    with serve(ingested) as server:
        yield server


def test_rerank_orders_documents(reranking: Running) -> None:
    asked: dict[str, Any] = {
        "model": "rag_app",
        "query": "what does bread need",
        "documents": ["nothing", "bread needs flour", "what does bread need"],
        "top_n": 2,
    }
    with reranking.http() as client:
        results = client.post("/v1/rerank", json=asked).json()["results"]
    assert [result["index"] for result in results] == [2, 1]
    assert results[0]["relevance_score"] > results[1]["relevance_score"]
    assert results[0]["document"] == {"text": "what does bread need"}


def test_rerank_without_a_reranker_says_so(running: Running) -> None:
    asked = {"model": "rag_app", "query": "x", "documents": ["y"]}
    with running.http() as client:
        refused = client.post("/v1/rerank", json=asked)
    assert refused.status_code == 400
    assert "retrieval.reranker" in refused.json()["error"]["message"]
