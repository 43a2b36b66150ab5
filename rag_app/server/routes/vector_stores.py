"""``/v1/vector_stores``: collections as OpenAI's vector stores, and searches in them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from llama_index.core.schema import MetadataMode, NodeWithScore
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rag_app.milvus.admin import CollectionInfo
from rag_app.server.access import Reader, Served
from rag_app.server.conversation import check_length
from rag_app.server.disconnect import until_gone
from rag_app.server.errors import RequestError
from rag_app.server.filters import OpenAIFilter, from_openai
from rag_app.server.keys import Key
from rag_app.server.routes.vector_store_files import documents_of
from rag_app.server.searches import search_each
from rag_app.server.service import Service, vector_store_not_found
from rag_app.server.threads import in_thread

router = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"])

_ATTRIBUTES = ("path", "title", "type", "page", "modified", "size")

Query = Annotated[str, StringConstraints(min_length=1)]


class RankingOptions(BaseModel):
    """How hits are ranked: as configured."""

    model_config = ConfigDict(extra="forbid")

    ranker: Literal["auto", "default-2024-11-15"] = "auto"
    score_threshold: float = 0.0
    """Where scores can be compared from question to question; elsewhere only 0."""


class SearchRequest(BaseModel):
    """OpenAI's search request."""

    model_config = ConfigDict(extra="forbid")

    query: Query | Annotated[list[Query], Field(min_length=1, max_length=32)]
    filters: OpenAIFilter | None = None
    max_num_results: int = Field(default=10, ge=1, le=50)
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False


@router.get("")
async def list_vector_stores(key: Reader, service: Served) -> dict[str, Any]:
    """List the collections that the key may use."""
    async with service.admission.working():
        infos = await service.collections(key)
        stores = [await _vector_store(info, key, service) for info in infos]
    ids = [store["id"] for store in stores]
    return {
        "object": "list",
        "data": stores,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": False,
    }


@router.get("/{vector_store_id}")
async def show_vector_store(vector_store_id: str, key: Reader, service: Served) -> dict[str, Any]:
    """Show one of them."""
    async with service.admission.working():
        for info in await service.collections(key):
            if info.name == vector_store_id:
                return await _vector_store(info, key, service)
    raise vector_store_not_found(vector_store_id)


@router.post("/{vector_store_id}/search")
async def search(
    vector_store_id: str, body: SearchRequest, request: Request, key: Reader, service: Served
) -> dict[str, Any]:
    """Find the passages nearest to a query, or to each of several, best first."""
    return await until_gone(request, _search(vector_store_id, body, key, service))


async def _search(
    collection: str, body: SearchRequest, key: Key, service: Service
) -> dict[str, Any]:
    queries = [body.query] if isinstance(body.query, str) else body.query
    for query in queries:
        check_length(query, service.config.server.max_question, "query")
    # Refused and not passed over: the client would take the hits for those of a better query.
    if body.rewrite_query and not service.has_llm:
        raise RequestError(
            400,
            "rewrite_query needs a language model, and this server has none",
            code="needs_llm",
            param="rewrite_query",
        )
    overrides: dict[str, Any] = {"similarity_top_k": body.max_num_results}
    if body.ranking_options.score_threshold > 0:
        overrides["min_score"] = body.ranking_options.score_threshold
    queries, found = await search_each(
        service,
        collection,
        key,
        queries,
        from_openai(body.filters),
        overrides,
        missing=vector_store_not_found,
        rewrites=body.rewrite_query,
    )
    rows = _merged(found)[: body.max_num_results]
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [_row(node) for node in rows],
        "has_more": False,
        "next_page": None,
    }


def _merged(found: list[list[NodeWithScore]]) -> list[NodeWithScore]:
    """Take the best of each query, then the second of each, and so on; each node once."""
    rows: dict[str, NodeWithScore] = {}
    for rank in range(max(map(len, found), default=0)):
        for nodes in found:
            if rank < len(nodes):
                rows.setdefault(nodes[rank].node_id, nodes[rank])
    return list(rows.values())


async def _vector_store(info: CollectionInfo, key: Key, service: Service) -> dict[str, Any]:
    app = await service.app(info.name, key, missing=vector_store_not_found)
    documents = await in_thread(lambda: documents_of(app, key))
    counts = {**service.ingests.count(info.name, key), "completed": len(documents)}
    return {
        "id": info.name,
        "object": "vector_store",
        "created_at": 0,  # Milvus does not say
        "name": info.name,
        "status": "in_progress" if counts["in_progress"] else "completed",
        "usage_bytes": sum(document.size for document in documents.values()),
        "file_counts": {**counts, "total": sum(counts.values())},
        "last_active_at": None,
        "metadata": {},
        "rag": {"nodes": sum(document.nodes for document in documents.values())},
    }


def _row(found: NodeWithScore) -> dict[str, Any]:
    about = found.metadata
    return {
        "file_id": f"file-{found.node.ref_doc_id}",
        "filename": about.get("file_name") or about.get("path") or "",
        "score": found.score or 0.0,
        "attributes": {name: about[name] for name in _ATTRIBUTES if about.get(name) is not None},
        "content": [{"type": "text", "text": found.node.get_content(MetadataMode.NONE)}],
        "rag": {"node_id": found.node_id, "copies": list(about.get("copies", ()))},
    }
