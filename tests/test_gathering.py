"""Questions that gather while a call runs; `tests/embedding/test_batching.py` has the rest."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from rag_app.errors import VectorStoreError
from rag_app.gathering import Gathering


class Calls:
    """Answers a question with itself, when it may."""

    def __init__(self) -> None:
        self.made: list[list[str]] = []
        self.began = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.error: Exception | None = None

    def __call__(self, questions: Sequence[str]) -> Sequence[str]:
        self.made.append(list(questions))
        self.began.release()
        assert self.may_go.wait(30)
        if self.error is not None:
            raise self.error
        return questions


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def gathering(calls: Calls) -> Iterator[Gathering[str, str]]:
    made: Gathering[str, str] = Gathering("tests", 2)
    yield made
    calls.may_go.set()
    made.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("tests")]


def test_kinds_do_not_mix_and_take_turns(gathering: Gathering[str, str], calls: Calls) -> None:
    first = [gathering.join(f"{kind}0", calls, kind) for kind in "ab"]
    for _ in first:
        assert calls.began.acquire(timeout=30), "beside each other"
    others = [gathering.join(f"{kind}{n}", calls, kind) for n in (1, 2, 3) for kind in "abc"]
    calls.may_go.set()
    for each in (*first, *others):
        each.result(30)
    assert sorted(calls.made) == [
        ["a0"],
        ["a1", "a2", "a3"],
        ["b0"],
        ["b1", "b2", "b3"],
        ["c1", "c2", "c3"],
    ]
    gathering.join("a4", calls, "a").result(30)
    gathering.close()
    assert not gathering._waiting
    assert not gathering._running


def test_what_a_service_fails_on_is_not_asked_again(
    gathering: Gathering[str, str], calls: Calls
) -> None:
    first = gathering.join("first", calls)
    assert calls.began.acquire(timeout=30)
    calls.error = VectorStoreError("Milvus is away")
    others = [gathering.join(str(n), calls) for n in range(5)]
    calls.may_go.set()
    for each in (first, *others):
        assert each.exception(30) is calls.error
    assert len(calls.made) == 2


def test_who_closes_need_not_wait_for_what_hangs(
    gathering: Gathering[str, str], calls: Calls
) -> None:
    hanging = gathering.join("hanging", calls)
    assert calls.began.acquire(timeout=30)
    gathering.close(wait=False)
    assert not hanging.done()
    calls.may_go.set()
    assert hanging.result(30) == "hanging"
