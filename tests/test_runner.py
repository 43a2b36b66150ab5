"""Questions are let in, counted, and waited for."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator

import pytest

from rag_app.errors import ClosedError, InputError, VectorStoreError
from rag_app.runner import Runner

NAME = contextvars.ContextVar("NAME", default="")


def test_steps_run_in_its_own_threads_with_the_caller_s_context() -> None:
    runner = Runner(2)

    async def ask() -> tuple[str, str]:
        NAME.set("mine")
        return await runner.run(lambda: (NAME.get(), threading.current_thread().name))

    name, thread = asyncio.run(ask())
    assert name == "mine"
    assert thread.startswith("rag_app")
    runner.close()


def test_more_steps_than_threads_wait_for_their_turn() -> None:
    runner = Runner(2)
    running: list[int] = []
    most = 0
    lock = threading.Lock()

    def step() -> None:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        time.sleep(0.02)
        with lock:
            running.pop()

    async def ask() -> None:
        await asyncio.gather(*(runner.run(step) for _ in range(8)))

    asyncio.run(ask())
    runner.close()
    assert most == 2


def test_a_question_that_runs_may_go_on_and_no_other_one_begins() -> None:
    runner = Runner()
    begun, go_on = threading.Event(), threading.Event()
    steps = []

    def ask() -> None:
        with runner.question():
            begun.set()
            assert go_on.wait(30)
            with runner.question():  # a step of it
                steps.append("second step")

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    draining = threading.Thread(target=runner.drain, args=(30,))
    draining.start()
    while not runner._is_closed:
        time.sleep(0.005)
    with pytest.raises(ClosedError, match="this RagApp is closed"), runner.question():
        pass
    go_on.set()
    draining.join(30)
    asking.join(30)
    assert steps == ["second step"]
    runner.close()


def test_draining_is_bounded_and_what_fails_then_says_why() -> None:
    runner = Runner()

    def ask() -> None:
        with runner.question():
            runner.drain(0.05)
            runner.close()
            raise VectorStoreError("the connection is gone")

    with pytest.raises(ClosedError) as raised:
        ask()
    assert isinstance(raised.value.__cause__, VectorStoreError)


def test_an_error_of_the_user_is_told_as_it_is() -> None:
    runner = Runner()

    def ask() -> None:
        with runner.question():
            runner.drain(0)
            raise InputError("the question is empty")

    with pytest.raises(InputError, match="empty"):
        ask()
    with pytest.raises(VectorStoreError), Runner().question():
        raise VectorStoreError("no Milvus")


def test_what_runs_between_two_pieces_of_a_stream_is_no_part_of_it() -> None:
    runner = Runner()

    def pieces() -> Iterator[int]:
        with runner.stream():
            yield 1
            yield 2

    stream = pieces()
    assert next(stream) == 1
    runner.drain(0)
    with pytest.raises(ClosedError), runner.question():
        pass
    assert list(stream) == [2]
    assert runner._running == 0


def test_after_close_no_step_begins_and_no_thread_is_left() -> None:
    runner = Runner()

    async def ask() -> None:
        await runner.run(lambda: None)

    asyncio.run(ask())
    runner.close()
    runner.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("rag_app_")]
    with pytest.raises(ClosedError):
        asyncio.run(ask())
