"""Chat engines over sessions: LlamaIndex's methods and ours, from threads and event loops."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, CompletionResponse, CompletionResponseGen

from rag_app import RagApp
from rag_app.answering.chat import ChatEngine
from rag_app.config.sections import Config
from rag_app.errors import ClosedError, InputError, LLMError, SessionBusyError
from tests.conftest import FakeEmbedder
from tests.test_app import EchoLLM

FIRST, SECOND = "What does bread need?", "And what does Strong consistency show?"
OWN: Any = FakeEmbedder(model_name="own")


@pytest.fixture
def llm() -> EchoLLM:
    return EchoLLM()


@pytest.fixture
def app(ingested: Config, llm: EchoLLM) -> Iterator[RagApp]:
    with RagApp(ingested, llm=llm, embedder=OWN) as made:
        yield made


def by_stream(chat: ChatEngine, question: str) -> str:
    return "".join(chat.stream(question))


def by_chat(chat: ChatEngine, question: str) -> str:
    return str(chat.chat(question))


def by_stream_chat(chat: ChatEngine, question: str) -> str:
    response = chat.stream_chat(question)
    return "".join(response.response_gen)


def by_astream(chat: ChatEngine, question: str) -> str:
    async def ask() -> str:
        return "".join([piece async for piece in chat.astream(question)])

    return asyncio.run(ask())


def by_achat(chat: ChatEngine, question: str) -> str:
    async def ask() -> str:
        return str(await chat.achat(question))

    return asyncio.run(ask())


def by_astream_chat(chat: ChatEngine, question: str) -> str:
    async def ask() -> str:
        response = await chat.astream_chat(question)
        return "".join([piece async for piece in response.async_response_gen()])

    return asyncio.run(ask())


WAYS = [by_stream, by_chat, by_stream_chat, by_astream, by_achat, by_astream_chat]


@pytest.mark.parametrize("ask", WAYS)
def test_a_session_goes_on_whoever_asks_and_however(
    app: RagApp, llm: EchoLLM, ask: Callable[[ChatEngine, str], str]
) -> None:
    first = app.chat_engine("ann")
    answer = ask(first, FIRST)
    assert "flour" in answer
    assert [source.path for source in first.sources]
    assert [message.content for message in first.chat_history] == [FIRST, answer]
    prompts = len(llm.prompts)
    second = app.chat_engine("ann", similarity_top_k=1)
    ask(second, SECOND)
    assert FIRST in llm.prompts[prompts], "the follow-up is rewritten from what was said"
    assert len(first.chat_history) == 4
    assert not app.sessions.open("ann").is_busy
    assert app.chat_engine("bob").chat_history == []
    first.reset()
    assert second.chat_history == []


def test_an_engine_without_a_name_has_a_conversation_of_its_own(app: RagApp) -> None:
    one, two = app.chat_engine(), app.chat_engine()
    by_stream(one, FIRST)
    assert len(one.chat_history) == 2
    assert two.chat_history == []
    assert len(app.sessions) == 0


def test_a_history_that_is_given_stands_in_for_the_conversation(app: RagApp, llm: EchoLLM) -> None:
    said = [ChatMessage(content="I bake.")]
    response = app.chat_engine("ann").chat("What is needed?", said)
    assert "I bake." in llm.prompts[0]
    assert response.sources[0].content == str(response)


@pytest.mark.parametrize("ask", WAYS)
def test_a_second_caller_is_refused_and_a_failed_turn_is_not_remembered(
    app: RagApp, monkeypatch: pytest.MonkeyPatch, ask: Callable[[ChatEngine, str], str]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fails(self: EchoLLM, prompt: str, **_: Any) -> CompletionResponseGen:
        begun.set()
        assert go_on.wait(30)
        yield CompletionResponse(text="Bread", delta="Bread")
        raise LLMError("the engine was stopped")

    monkeypatch.setattr(EchoLLM, "stream_complete", fails)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, app.chat_engine("ann"), FIRST)
        assert begun.wait(30)
        with pytest.raises(SessionBusyError, match="'ann'"):
            ask(app.chat_engine("ann"), SECOND)
        go_on.set()
        with pytest.raises(LLMError, match="stopped"):
            asked.result(30)
    assert app.chat_engine("ann").chat_history == []
    assert not app.sessions.open("ann").is_busy


def test_a_stream_that_is_given_up_lets_the_next_question_in(app: RagApp) -> None:
    chat = app.chat_engine("ann")
    pieces = chat.stream(FIRST)
    next(pieces)
    pieces.close()
    assert chat.chat_history == []
    assert by_stream(chat, FIRST)


def test_sessions_of_many_threads_and_loops_do_not_mix(app: RagApp) -> None:
    def talk(number: int) -> list[str | None]:
        chat = app.chat_engine(f"user {number}")
        for turn in range(3):
            WAYS[(number + turn) % len(WAYS)](chat, f"What does bread need for user {number}?")
        return [message.content for message in chat.chat_history[::2]]

    with ThreadPoolExecutor(6) as threads:
        for number, questions in enumerate(threads.map(talk, range(12))):
            assert questions == [f"What does bread need for user {number}?"] * 3


def test_what_no_longer_fits_is_forgotten(app: RagApp, llm: EchoLLM) -> None:
    chat = app.chat_engine("ann")
    for _ in range(4):
        by_chat(chat, "What does bread need? " + "Please tell me. " * 200)
    limit = (llm.window - llm.answer_tokens) // 2
    assert llm.count_text_tokens(" ".join(str(each.content) for each in chat.chat_history)) <= limit
    assert len(chat.chat_history) < 8


def test_errors_of_a_turn(app: RagApp) -> None:
    chat = app.chat_engine("ann")
    for ask in WAYS:
        with pytest.raises(InputError, match="empty"):
            ask(chat, "  ")
    app.close()
    with pytest.raises(ClosedError):
        by_stream(chat, FIRST)
