"""What LlamaIndex's methods do is the same on the engine and on the server."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llama_index.core.llms import ChatMessage, MessageRole

from rag_app.errors import RagAppError
from rag_app.llms import build_llm
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.llms.vllm_server import VllmServer
from tests.llms.conftest import ENGINE, WINDOW, Server, connect, section

Llm = VllmEngine | VllmServer
PROMPT = "What is a licence?"
MESSAGES = [
    ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
    ChatMessage(role=MessageRole.USER, content=PROMPT),
]


def test_metadata_is_the_models_own(llm: Llm) -> None:
    assert llm.metadata.context_window == WINDOW
    assert llm.metadata.num_output == 16
    assert llm.metadata.is_chat_model


def test_streamed_text_is_the_unstreamed(llm: Llm) -> None:
    whole = llm.complete(PROMPT)
    pieces = list(llm.stream_complete(PROMPT))
    assert len([piece for piece in pieces if piece.delta]) > 5
    assert "".join(piece.delta or "" for piece in pieces) == whole.text == pieces[-1].text


def test_streamed_chat_is_the_unstreamed(llm: Llm) -> None:
    whole = llm.chat(MESSAGES)
    pieces = list(llm.stream_chat(MESSAGES))
    assert "".join(piece.delta or "" for piece in pieces) == whole.message.content
    assert pieces[-1].message.content == whole.message.content


async def test_async_is_sync(llm: Llm) -> None:
    whole = await asyncio.to_thread(llm.complete, PROMPT)
    assert (await llm.acomplete(PROMPT)).text == whole.text
    pieces = [piece async for piece in await llm.astream_complete(PROMPT)]
    assert pieces[-1].text == whole.text
    chat = await asyncio.to_thread(llm.chat, MESSAGES)
    assert (await llm.achat(MESSAGES)).message.content == chat.message.content
    chats = [piece async for piece in await llm.astream_chat(MESSAGES)]
    assert chats[-1].message.content == chat.message.content


def test_a_prompt_goes_through_the_chat_template(llm: Llm) -> None:
    chat = llm.chat([ChatMessage(role=MessageRole.USER, content=PROMPT)])
    assert llm.complete(PROMPT).text == chat.message.content
    assert llm.complete(PROMPT).additional_kwargs["prompt_tokens"] == llm.count_tokens(PROMPT)
    assert llm.count_tokens(PROMPT) > llm.count_tokens("")


def test_engine_and_server_agree(engine: VllmEngine, client: VllmServer) -> None:
    assert engine.count_tokens(PROMPT) == client.count_tokens(PROMPT)
    assert engine.complete(PROMPT).text == client.complete(PROMPT).text


def test_sampling_parameters_per_call(llm: Llm) -> None:
    short = llm.complete(PROMPT, max_tokens=3)
    assert short.additional_kwargs["completion_tokens"] == 3
    seeded = [llm.complete(PROMPT, temperature=1.0, seed=7).text for _ in range(2)]
    other = llm.complete(PROMPT, temperature=1.0, seed=8).text
    assert seeded[0] == seeded[1] != other
    whole = llm.complete(PROMPT).text
    stop = whole[4:7]
    assert llm.complete(PROMPT, stop=[stop]).text == whole[: whole.index(stop)]


def test_wrong_sampling_parameter(llm: Llm) -> None:
    with pytest.raises(RagAppError, match="temperature"):
        llm.complete(PROMPT, temperature=-1.0)


def test_prompt_over_the_window(llm: Llm) -> None:
    with pytest.raises(RagAppError, match=str(WINDOW)):
        llm.complete("word " * 2 * WINDOW)
    with pytest.raises(RagAppError, match=str(WINDOW)):
        list(llm.stream_complete("word " * 2 * WINDOW))


def test_one_prompt_of_many_is_refused(llm: Llm) -> None:
    prompts = [PROMPT, "word " * 2 * WINDOW, PROMPT]
    found = dict(llm.generate_each(prompts))
    assert isinstance(found[1], RagAppError)
    assert str(WINDOW) in found[1].message
    for index in (0, 2):
        answer = found[index]
        assert not isinstance(answer, RagAppError)
        assert answer.text == llm.complete(PROMPT).text


def test_eight_threads(llm: Llm) -> None:
    prompts = [f"{number} {PROMPT}" for number in range(8)]
    alone = [llm.complete(prompt).text for prompt in prompts]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda prompt: llm.complete(prompt).text, prompts))
        streamed = list(threads.map(lambda p: list(llm.stream_complete(p))[-1].text, prompts))
    assert together == streamed == alone


def test_two_event_loops_at_once(llm: Llm) -> None:
    expected = llm.complete(PROMPT).text
    both_run = threading.Barrier(2, timeout=30)

    async def ask() -> list[str]:
        both_run.wait()
        answers = await asyncio.gather(*(llm.acomplete(PROMPT) for _ in range(4)))
        return [answer.text for answer in answers]

    with ThreadPoolExecutor(2) as threads:
        for texts in threads.map(lambda _: asyncio.run(ask()), range(2)):
            assert texts == [expected] * 4


def test_variables_of_the_chat_template(
    engine: VllmEngine, vllm_server: Server, llama: Path
) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    server = connect(vllm_server, **thinking)
    ours = build_llm(section(backend="vllm", model=str(llama), engine=ENGINE, **thinking))
    expected = engine.complete(PROMPT, **thinking)
    for llm in (server, ours):
        found = llm.complete(PROMPT)
        assert found.text == expected.text
        assert found.additional_kwargs["prompt_tokens"] == llm.count_tokens(PROMPT)
        assert llm.count_tokens(PROMPT) > engine.count_tokens(PROMPT)
    plain = server.complete(PROMPT, chat_template_kwargs={"enable_thinking": False})
    assert plain.text == engine.complete(PROMPT).text
