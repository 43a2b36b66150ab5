"""The engine from event loops: no thread for a question, and nobody left behind."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from rag_app.errors import LLMError, ModelUnavailableError
from rag_app.llms import Vllm, VllmEngine
from tests.llms.conftest import ENGINE

PROMPT = "What is a licence?"
LONG = {"max_tokens": 900, "ignore_eos": True}
MESSAGES = [ChatMessage(content=PROMPT)]


async def no_thread(*_: Any) -> None:
    pytest.fail("a question took a thread of the event loop's executor")


async def test_questions_take_no_thread(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = engine.complete(PROMPT).text
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", no_thread)
    before = threading.active_count()
    answers = await asyncio.gather(*(engine.acomplete(PROMPT) for _ in range(32)))
    assert {answer.text for answer in answers} == {text}
    assert (await engine.achat(MESSAGES)).message.content == text
    streamed = [piece async for piece in await engine.astream_complete(PROMPT)]
    assert streamed[-1].text == text
    chats = [piece async for piece in await engine.astream_chat(MESSAGES)]
    assert chats[-1].message.content == text
    assert threading.active_count() <= before, "others may end meanwhile"


async def test_an_engines_start_does_not_block_the_loop(engine: VllmEngine, llama: Path) -> None:
    starting = Vllm(str(llama), max_new_tokens=4, vllm_kwargs={**ENGINE, "max_model_len": 128})
    longest, last = 0.0, time.monotonic()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticking = asyncio.create_task(tick())
    asking = [asyncio.create_task(starting.achat(MESSAGES)) for _ in range(2)]
    began = time.monotonic()
    await asyncio.gather(*asking)
    took = time.monotonic() - began
    ticking.cancel()
    assert longest < took / 2, "the loop stood still while the engine started"
    await asyncio.to_thread(starting.close)
    with pytest.raises(LLMError, match="closed"):
        await starting.achat(MESSAGES)
    assert engine.complete(PROMPT).text


@pytest.mark.usefixtures("llama")
async def test_a_failing_start_is_told_to_all_who_wait() -> None:
    llm = Vllm("/no/such/folder", vllm_kwargs=ENGINE)
    found = await asyncio.gather(*(llm.acomplete(PROMPT) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [ModelUnavailableError] * 3


async def leave_a_task(engine: VllmEngine) -> None:
    task = asyncio.create_task(engine.achat(MESSAGES, **LONG))
    while not engine.unfinished():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_a_stream(engine: VllmEngine) -> None:
    stream = await engine.astream_chat(MESSAGES, **LONG)
    await anext(stream)
    assert engine.unfinished() == 1
    await stream.aclose()


async def leave_a_task_with_a_stream(engine: VllmEngine) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in await engine.astream_complete(PROMPT, **LONG):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_before_the_first_piece(engine: VllmEngine) -> None:
    stream = await engine.astream_complete(PROMPT, **LONG)
    await stream.aclose()


@pytest.mark.parametrize(
    "leave",
    [leave_a_task, leave_a_stream, leave_a_task_with_a_stream, leave_before_the_first_piece],
)
async def test_whoever_leaves_is_not_answered(
    engine: VllmEngine, leave: Callable[[VllmEngine], Awaitable[None]]
) -> None:
    await leave(engine)
    deadline = time.monotonic() + 1.0
    while engine.unfinished():
        assert time.monotonic() < deadline, "its request still runs after a second"
        await asyncio.sleep(0.01)
