"""``/v1/embeddings`` and ``/v1/rerank``: the models that a collection is searched with."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from rag_app.server.access import Reader, Served
from rag_app.server.disconnect import until_gone
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.service import Service
from rag_app.server.threads import in_thread

router = APIRouter(prefix="/v1", tags=["models"])

MOST_INPUTS = 2048
"""Of texts in a request (OpenAI's API reference, "Create embeddings")."""

Text = Annotated[str, StringConstraints(min_length=1)]


class EmbeddingRequest(BaseModel):
    """OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    """Taken and not kept."""
    input_type: Literal["document", "query"] = "document"
    """Of ours: a question may be embedded with an instruction before it."""


class RerankRequest(BaseModel):
    """Jina's and vLLM's request."""

    model_config = ConfigDict(extra="forbid")

    model: str
    query: Text
    documents: list[Text] = Field(min_length=1, max_length=MOST_INPUTS)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = True


@router.post("/embeddings")
async def embed(
    body: EmbeddingRequest, request: Request, key: Reader, service: Served
) -> dict[str, Any]:
    """Embed texts with the model of a collection."""
    return await until_gone(request, _embed(body, key, service))


async def _embed(body: EmbeddingRequest, key: Key, service: Service) -> dict[str, Any]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    async with service.admission.working():
        app = await service.app(body.model, key)
        embedder = await in_thread(lambda: app.embedder)
        if body.input_type == "query":
            vectors = await run_in_threadpool(embedder.embed_queries, texts)
        else:
            vectors = await run_in_threadpool(embedder.get_text_embedding_batch, texts)
        tokens = await run_in_threadpool(lambda: sum(map(len, map(embedder.tokenize, texts))))
    return {
        "object": "list",
        "model": body.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _coded(vector, body)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _coded(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "float":
        return vector
    # Little-endian float32 is what OpenAI's clients decode.
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


@router.post("/rerank")
async def rerank(
    body: RerankRequest, request: Request, key: Reader, service: Served
) -> dict[str, Any]:
    """Order texts by how well they answer a query, with the configured reranker."""
    return await until_gone(request, _rerank(body, key, service))


async def _rerank(body: RerankRequest, key: Key, service: Service) -> dict[str, Any]:
    async with service.admission.working():
        app = await service.app(body.model, key)
        reranker = await in_thread(lambda: app.reranker)
        if reranker is None:
            message = "no reranker is configured (retrieval.reranker)"
            raise RequestError(400, message, code="no_reranker")
        nodes = [
            # The place in the request as id: the reranker returns nodes in its own order.
            NodeWithScore(node=TextNode(text=text, id_=str(index)))
            for index, text in enumerate(body.documents)
        ]
        ranked = await run_in_threadpool(
            lambda: reranker.postprocess_nodes(nodes, query_str=body.query)
        )
    results = []
    for node in ranked[: body.top_n]:
        index = int(node.node_id)
        result: dict[str, Any] = {"index": index, "relevance_score": node.score}
        if body.return_documents:
            result["document"] = {"text": body.documents[index]}
        results.append(result)
    return {"model": body.model, "results": results}
