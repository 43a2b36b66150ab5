"""Questions that are asked at the same time are embedded together, whoever asks."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

from pydantic import PrivateAttr

from rag_app.embedding.base import Embedder
from rag_app.errors import ClosedError

MOST_TOGETHER = 32
"""Questions in a batch: none waits for longer than such a batch and its own. On a processor more
are embedded no faster per question than these (MiniLM)."""

Vector = list[float]


class BatchingEmbedder(Embedder):
    """Another embedder, whose `get_query_embedding` from any thread or event loop joins a batch.

    While one batch is embedded, for some milliseconds, the next one gathers: a lone question waits
    for nothing. (To wait for more before a batch begins made it slower.) One thread embeds, which
    `close` gives back. All else is the other embedder's.
    """

    _inner: Embedder = PrivateAttr()
    _batches: "_Batches" = PrivateAttr()

    def __init__(self, inner: Embedder) -> None:
        super().__init__(
            model_name=inner.model_name,
            embed_batch_size=inner.embed_batch_size,
            max_length=inner.max_length,
        )
        self._inner = inner
        self._batches = _Batches(inner.embed_queries)

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
        self._batches.close()

    def _get_query_embedding(self, query: str) -> Vector:
        return self._batches.join(query).result()

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await asyncio.wrap_future(self._batches.join(query))

    def _get_text_embedding(self, text: str) -> Vector:
        return self._inner._get_text_embedding(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return self._inner._get_text_embeddings(texts)  # many already: nothing to gather

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await self._inner._aget_text_embedding(text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return await self._inner._aget_text_embeddings(texts)


class _Batches:
    """Gathers texts, and embeds each batch in one call."""

    def __init__(self, embed: Callable[[Sequence[str]], list[Vector]]) -> None:
        self._embed = embed
        self._waiting: deque[tuple[str, Future[Vector]]] = deque()
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rag_app-embedding")
        self._is_running = False
        self._is_closed = False

    def join(self, text: str) -> Future[Vector]:
        """Return the vector to come."""
        joined: Future[Vector] = Future()
        with self._lock:
            if self._is_closed:
                raise ClosedError
            self._waiting.append((text, joined))
            if not self._is_running:
                self._is_running = True
                self._thread.submit(self._run)
        return joined

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for _, left in self._waiting:
                if left.set_running_or_notify_cancel():
                    left.set_exception(ClosedError())
            self._waiting.clear()
        # Without the lock, which the run under way takes once more before it ends.
        self._thread.shutdown()

    def _run(self) -> None:
        while taken := self._gather():
            # Who asked may have gone: a cancelled one takes no vector, and setting it would fail.
            wanted = [each for each in taken if each[1].set_running_or_notify_cancel()]
            if wanted:
                _answer(wanted, self._embed)

    def _gather(self) -> list[tuple[str, Future[Vector]]]:
        """Take what waits; nothing: there is no more to do."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            # Within the lock, or one that joins just now would wait for a run that has ended.
            self._is_running = bool(taken)
            return taken


def _answer(
    batch: Sequence[tuple[str, Future[Vector]]],
    embed: Callable[[Sequence[str]], list[Vector]],
) -> None:
    """Embed texts together; where that fails, one by one: each has its own error."""
    try:
        vectors = embed([text for text, _ in batch])
        if len(vectors) != len(batch):
            raise ValueError(f"{len(vectors)} vectors came of {len(batch)} texts")
    except BaseException as error:  # nobody else would hear of it
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for each in batch:
            _answer([each], embed)
    else:
        for (_, joined), vector in zip(batch, vectors, strict=True):
            joined.set_result(vector)
