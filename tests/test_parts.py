"""Something costly is made once and closed once, whoever is in the middle of what."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag_app.errors import ClosedError
from rag_app.parts import Part


def test_it_is_made_once_from_many_threads() -> None:
    made: list[object] = []
    together = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    part = Part(make)

    def ask(_: int) -> object:
        together.wait()
        return part()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(8))) == set(made)
    assert len(made) == 1


def test_what_failed_is_tried_again() -> None:
    answers = iter([ValueError("not yet"), None])

    def make() -> int:
        if (error := next(answers)) is not None:
            raise error
        return 7

    part = Part(make)
    with pytest.raises(ValueError, match="not yet"):
        part()
    assert part() == 7


def test_it_is_closed_once_and_not_made_for_that() -> None:
    closed: list[int] = []
    part, unused = Part(lambda: 7, closed.append), Part(lambda: 8, closed.append)
    assert part() == 7
    for each in (part, unused, part):
        each.close()
    assert closed == [7]
    for each in (part, unused):
        with pytest.raises(ClosedError):
            each()


def test_closing_does_not_wait_for_what_is_being_made_and_leaves_nothing_open() -> None:
    begun, go_on = threading.Event(), threading.Event()
    closed: list[int] = []

    def make() -> int:
        begun.set()
        assert go_on.wait(30)
        return 7

    part = Part(make, closed.append)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(part)
        assert begun.wait(30)
        part.close()
        assert closed == []
        go_on.set()
        with pytest.raises(ClosedError):
            asking.result(30)
    assert closed == [7]
