"""``/page/collections/…/scores``: how each of the two searches ranks passages for a question."""

from typing import Any

from fastapi import APIRouter
from llama_index.core.vector_stores.types import MetadataFilters
from pydantic import BaseModel, ConfigDict

from rag_app.app import RagApp
from rag_app.errors import ConfigError
from rag_app.questions import check_question
from rag_app.search.modes import Asked
from rag_app.server.access import Reader, Served, filters_of
from rag_app.server.conversation import check_length
from rag_app.server.threads import in_thread

router = APIRouter(prefix="/page/collections/{collection}", tags=["page"])

LOOKED_AT = 50
"""Hits of each search: what an answer was made from is seldom further down."""


class Searched(BaseModel):
    """A question, as it was looked for."""

    model_config = ConfigDict(extra="forbid")

    question: str


@router.post("/scores")
async def score(collection: str, body: Searched, key: Reader, service: Served) -> dict[str, Any]:
    """Search by meaning and by words, each alone; null where a collection has no such search."""
    question = check_question(
        check_length(body.question, service.config.server.max_question, "question")
    )
    async with service.admission.working():
        app = await service.app(collection, key)
        filters = filters_of(key)
        dense = await in_thread(lambda: _hits(app, question, "dense", filters))
        text = await in_thread(lambda: _hits(app, question, "text", filters))
    return {"dense": dense, "text": text}


def _hits(
    app: RagApp, question: str, mode: str, filters: MetadataFilters | None
) -> list[dict[str, Any]] | None:
    vectors = app.embedder.embed_queries([question]) if mode == "dense" else []
    alone = {"mode": mode, "similarity_top_k": LOOKED_AT}
    section = app.config.retrieval.model_copy(update=alone)
    try:
        (found,) = app.store.find(Asked([question], vectors), section, filters=filters)
    except ConfigError:  # this Milvus counts no words
        return None
    return [{"id": each.node_id, "score": each.score} for each in found]
