"""Searches without an answer: what the routes for them share."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.server.access import filters_of
from rag_app.server.conversation import rewrite
from rag_app.server.keys import Key
from rag_app.server.service import Missing, Service
from rag_app.server.threads import in_thread


async def search_each(
    service: Service,
    collection: str,
    key: Key,
    queries: Sequence[str],
    filters: MetadataFilters | None,
    overrides: Mapping[str, Any],
    *,
    missing: Missing,
    rewrites: bool = False,
) -> tuple[list[str], list[list[NodeWithScore]]]:
    """Find nodes for each query, best first; all of it takes one place among the questions.

    Parameters
    ----------
    filters
        What is asked for besides the key's own.
    missing
        The error of a collection that is not there, or not for this key.
    rewrites
        Whether the model writes each query anew first; what it wrote is returned as well.

    Raises
    ------
    RequestError
        If there is no such collection; 429 if too much is asked.
    TimeoutError
        After ``server.deadline``.
    RagAppError
        As `RagApp.retriever`.
    """
    async with service.admission.working():
        app = await service.app(collection, key, missing=missing)
        both = filters_of(key, filters)
        retriever = await in_thread(
            lambda: app.retriever(filters=both, **_wide(service, overrides))
        )
        asked = list(queries)
        if rewrites:
            asked = await asyncio.gather(*(rewrite(app.llm, query) for query in asked))
        found = await asyncio.gather(*(retriever.aretrieve(query) for query in asked))
        return asked, list(found)


def _wide(service: Service, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Let as many candidates be looked at as are asked for."""
    wanted = overrides.get("similarity_top_k", 0)
    candidates = max(service.config.retrieval.candidates, wanted)
    return {**overrides, "candidates": candidates}
