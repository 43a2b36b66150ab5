"""``POST /retrieval``: Dify's external knowledge API (docs.dify.ai, "External Knowledge API")."""

from typing import Any

from fastapi import APIRouter, Request
from llama_index.core.schema import MetadataMode, NodeWithScore
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from rag_app.server.access import Served, bearer
from rag_app.server.conversation import check_length
from rag_app.server.disconnect import until_gone
from rag_app.server.errors import RequestError, as_request_error
from rag_app.server.filters import Conditions, from_dify
from rag_app.server.searches import search_each
from rag_app.server.service import Service

router = APIRouter(tags=["dify"])

_BAD_HEADER, _BAD_KEY, _NO_KNOWLEDGE = 1001, 1002, 2001


class RetrievalSetting(BaseModel):
    """How much is wanted."""

    top_k: int = Field(default=5, ge=1, le=100)
    score_threshold: float = 0.0
    """Where scores can be compared from question to question; elsewhere only 0."""


class KnowledgeRequest(BaseModel):
    """Dify's request; the knowledge is a collection."""

    knowledge_id: str
    query: str
    retrieval_setting: RetrievalSetting = RetrievalSetting()
    metadata_condition: Conditions | None = None


@router.post("/retrieval")
async def retrieve(body: KnowledgeRequest, request: Request, service: Served) -> JSONResponse:
    """Find passages for Dify; errors have its codes."""
    try:
        content = await until_gone(request, _retrieve(body, request, service))
    except Exception as error:
        refused = as_request_error(error)
        code = {401: _BAD_KEY, 404: _NO_KNOWLEDGE}.get(refused.status, refused.status)
        if refused.status == 401 and not request.headers.get("authorization", "").startswith(
            "Bearer "
        ):
            code = _BAD_HEADER
        return JSONResponse(
            {"error_code": code, "error_msg": refused.message},
            status_code=refused.status,
            headers=refused.headers,
        )
    return JSONResponse(content)


async def _retrieve(body: KnowledgeRequest, request: Request, service: Service) -> dict[str, Any]:
    # Not by a dependency of the route, whose refusal would not have Dify's form.
    key = bearer(request, service)
    setting = body.retrieval_setting
    query = check_length(body.query, service.config.server.max_question, "query")
    overrides: dict[str, Any] = {"similarity_top_k": setting.top_k}
    # Dify sends 0 for "none", and a threshold is refused where scores cannot be compared.
    if setting.score_threshold > 0:
        overrides["min_score"] = setting.score_threshold
    filters = from_dify(body.metadata_condition)
    _, (found,) = await search_each(
        service, body.knowledge_id, key, [query], filters, overrides, missing=_no_knowledge
    )
    return {"records": [_record(node) for node in found]}


def _no_knowledge(collection: str) -> RequestError:
    return RequestError(404, f"there is no knowledge {collection!r}")


def _record(found: NodeWithScore) -> dict[str, Any]:
    about = found.metadata
    return {
        "content": found.node.get_content(MetadataMode.NONE),
        "score": found.score or 0.0,
        "title": about.get("title") or about.get("path") or "",
        "metadata": {  # Dify fails on null, here and within
            "path": str(about.get("path") or ""),
            "description": str(about.get("type") or ""),
            **({"page": about["page"]} if about.get("page") else {}),
        },
    }
