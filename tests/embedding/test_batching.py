"""Questions that are asked at the same time are embedded together."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
from pydantic import PrivateAttr

from rag_app.embedding.base import Embedder
from rag_app.embedding.batching import BatchingEmbedder
from rag_app.errors import ClosedError
from rag_app.gathering import MOST_TOGETHER
from tests.conftest import FakeEmbedder

QUESTIONS = [f"What does {'very ' * (number % 7)}parameter {number} mean?" for number in range(40)]


class Slow(FakeEmbedder):
    """Takes as long for many as for one, as a model does; a poisoned text fails the call."""

    _batches: list[list[str]] = PrivateAttr(default_factory=list)
    _may_go: threading.Event = PrivateAttr(default_factory=threading.Event)

    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        self._batches.append(list(questions))
        assert self._may_go.wait(30)
        if any("poison" in question for question in questions):
            raise ValueError("a text that no model takes")
        return super().embed_queries(questions)

    @property
    def batches(self) -> list[list[str]]:
        return self._batches

    def go(self) -> None:
        self._may_go.set()


@pytest.fixture
def slow() -> Slow:
    return Slow(model_name="slow")


@pytest.fixture
def together(slow: Slow) -> Iterator[BatchingEmbedder]:
    made = BatchingEmbedder(cast(Any, slow))
    yield made
    slow.go()
    made.close()


def wait_for(what: Any) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def waiting(together: BatchingEmbedder) -> int:
    return len(together._gathering._waiting[None])


def test_what_comes_while_one_batch_is_embedded_is_the_next(
    slow: Slow, together: BatchingEmbedder
) -> None:
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(together.get_query_embedding, "first")
        wait_for(lambda: slow.batches)
        others = [threads.submit(together.get_query_embedding, text) for text in QUESTIONS[:7]]
        wait_for(lambda: waiting(together) == 7)
        slow.go()
        assert [each.result() for each in others] == slow.embed_queries(QUESTIONS[:7])
    assert first.result() == slow.embed_queries(["first"])[0]
    assert slow.batches[0] == ["first"]
    assert sorted(slow.batches[1]) == sorted(QUESTIONS[:7])


def test_threads_and_event_loops_share_a_batch(slow: Slow, together: BatchingEmbedder) -> None:
    async def ask(texts: Sequence[str]) -> list[list[float]]:
        return list(await asyncio.gather(*map(together.aget_query_embedding, texts)))

    with ThreadPoolExecutor(4) as threads:
        plain = threads.submit(together.get_query_embedding, "first")
        wait_for(lambda: slow.batches)
        loops = [
            threads.submit(asyncio.run, ask(some)) for some in (QUESTIONS[:20], QUESTIONS[20:])
        ]
        wait_for(lambda: waiting(together) == 40)
        slow.go()
        vectors = [vector for loop in loops for vector in loop.result()]
        plain.result()
    assert vectors == slow.embed_queries(QUESTIONS)
    assert [len(batch) for batch in slow.batches[:2]] == [1, MOST_TOGETHER]


def test_a_batch_is_bounded(slow: Slow, together: BatchingEmbedder) -> None:
    texts = [f"question {number}" for number in range(MOST_TOGETHER + 5)]
    waiting = [together._joined(text) for text in texts]
    slow.go()
    assert [each.result(30) for each in waiting] == slow.embed_queries(texts)
    assert max(map(len, slow.batches[:-1])) <= MOST_TOGETHER


def test_a_text_that_fails_fails_alone(slow: Slow, together: BatchingEmbedder) -> None:
    first = together._joined("first")
    wait_for(lambda: slow.batches)
    good, bad = together._joined("good"), together._joined("poison")
    slow.go()
    assert good.result(30) == slow.embed_queries(["good"])[0]
    with pytest.raises(ValueError, match="no model takes"):
        bad.result(30)
    first.result(30)
    assert together.get_query_embedding("after") == slow.embed_queries(["after"])[0]


def test_who_went_away_is_not_embedded(slow: Slow, together: BatchingEmbedder) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await together.aget_query_embedding("given up")

    together._joined("first")
    wait_for(lambda: slow.batches)
    asyncio.run(give_up())
    after = together._joined("after")
    slow.go()
    after.result(30)
    assert slow.batches == [["first"], ["after"]]


def test_after_close_there_is_a_clear_error(slow: Slow, together: BatchingEmbedder) -> None:
    before = set(threading.enumerate())
    first = together._joined("first")
    wait_for(lambda: slow.batches)
    left = together._joined("left")
    closing = threading.Thread(target=together.close)
    closing.start()
    with pytest.raises(ClosedError):
        left.result(30)
    slow.go()
    closing.join(30)
    assert first.result(30) == slow.embed_queries(["first"])[0]
    with pytest.raises(ClosedError):
        together.get_query_embedding("after")
    new = set(threading.enumerate()) - before
    assert not [each for each in new if "rag_app-embedding" in each.name]


def test_vectors_are_those_of_single_encoding(embedder: Embedder) -> None:
    together = BatchingEmbedder(embedder)
    with ThreadPoolExecutor(16) as threads:
        joined = list(threads.map(together.get_query_embedding, QUESTIONS))
    single = [embedder.get_query_embedding(question) for question in QUESTIONS]
    together.close()
    if embedder.dtype != "float32":
        pytest.skip(f"{embedder.dtype} rounds to 3 digits, in whatever company a text is")
    np.testing.assert_allclose(joined, single, atol=1e-5)


def test_all_else_is_the_embedder_s(fake_embedder: FakeEmbedder) -> None:
    together = BatchingEmbedder(cast(Any, fake_embedder))
    assert together.dimension == fake_embedder.dimension
    assert together.get_text_embedding_batch(["a b", "c"]) == [
        fake_embedder.get_text_embedding(text) for text in ("a b", "c")
    ]
    assert asyncio.run(together.aget_text_embedding("a b")) == together.get_text_embedding("a b")
    assert together.content_tokens == fake_embedder.content_tokens
    assert len(together.tokenize("a b")) == 2
    assert together.to_payload() == fake_embedder.to_payload()
    together.close()
