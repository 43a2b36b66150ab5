"""Questions that are asked at the same time are embedded together, whoever asks."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from pydantic import PrivateAttr

from rag_app.embedding.base import Embedder
from rag_app.gathering import Gathering

Vector = list[float]


class BatchingEmbedder(Embedder):
    """Another embedder, whose `get_query_embedding` from any thread or event loop joins a batch.

    One thread embeds, which `close` gives back. All else is the other embedder's.
    """

    _inner: Embedder = PrivateAttr()
    _gathering: Gathering[str, Vector] = PrivateAttr()

    def __init__(self, inner: Embedder) -> None:
        super().__init__(
            model_name=inner.model_name,
            embed_batch_size=inner.embed_batch_size,
            max_length=inner.max_length,
        )
        self._inner = inner
        self._gathering = Gathering("rag_app-embedding")

    def __reduce__(self) -> Any:
        return BatchingEmbedder, (self._inner,)  # a thread and a lock do not travel

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "BatchingEmbedder"

    @property
    def inner(self) -> Embedder:
        """The other embedder."""
        return self._inner

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._inner.dimension

    @property
    def runtime(self) -> str:
        """What runs the model, e.g. "torch"."""
        return self._inner.runtime

    @property
    def device(self) -> str:
        """Device that the model runs on, e.g. "cpu"."""
        return self._inner.device

    @property
    def dtype(self) -> str:
        """Type that the model computes in, e.g. "bfloat16"."""
        return self._inner.dtype

    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids as the model sees them, uncut and without special tokens."""
        return self._inner.tokenize(text)

    def embed_queries(self, questions: Sequence[str]) -> list[Vector]:
        """Return the vectors of many questions, embedded together."""
        return self._inner.embed_queries(questions)

    def to_payload(self) -> dict[str, Any]:
        """Say in LlamaIndex's events what the other embedder says."""
        return self._inner.to_payload()

    def close(self) -> None:
        """Embed no question any more; the other embedder stays open."""
        self._gathering.close()

    def _joined(self, query: str) -> Future[Vector]:
        return self._gathering.join(query, self._inner.embed_queries)

    def _get_query_embedding(self, query: str) -> Vector:
        return self._joined(query).result()

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await asyncio.wrap_future(self._joined(query))

    def _get_text_embedding(self, text: str) -> Vector:
        return self._inner._get_text_embedding(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return self._inner._get_text_embeddings(texts)  # many already: nothing to gather

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await self._inner._aget_text_embedding(text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return await self._inner._aget_text_embeddings(texts)
