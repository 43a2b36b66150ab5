"""What only the server's client does. The last test stops the one server and starts it again."""

import asyncio
import copy
import pickle
import time
from typing import Any

import cloudpickle
import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from pydantic import SecretStr

from rag_app.errors import ConfigError, LLMError, RagAppError
from rag_app.llms.vllm_server import VllmServer
from tests.llms.conftest import KEY, WINDOW, Server, connect

PROMPT = "What is a licence?"
DEAD = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"model": "nope"}, LLMError, "'nope'; it serves 'tiny'"),
        ({"api_key": SecretStr("wrong")}, LLMError, "refuses llm.api_key"),
        ({"api_key": SecretStr("")}, LLMError, "asks for an API key"),
        ({"base_url": DEAD, "retries": 0}, LLMError, "no LLM server answers.*\n.*llm serve"),
        ({"context_window": 4096}, ConfigError, "4096.*1024"),
        ({"max_tokens": 1024}, ConfigError, "no room"),
    ],
)
def test_wrong_configuration(
    vllm_server: Server, values: dict[str, Any], error: type[RagAppError], match: str
) -> None:
    with pytest.raises(error, match=match):
        connect(vllm_server, **values)


def test_window_may_be_lowered(vllm_server: Server) -> None:
    assert connect(vllm_server, context_window=512).metadata.context_window == 512


def test_completion_endpoint(vllm_server: Server) -> None:
    llm = connect(vllm_server, endpoint="completion")
    assert not llm.metadata.is_chat_model
    answer = llm.complete(PROMPT)
    assert answer.additional_kwargs["prompt_tokens"] == llm.count_tokens(PROMPT)
    assert list(llm.stream_complete(PROMPT))[-1].text == answer.text


def test_configured_sampling_parameters(vllm_server: Server) -> None:
    whole = connect(vllm_server).complete(PROMPT).text
    stop = whole[4:7]
    llm = connect(vllm_server, sampling={"stop": [stop], "top_k": 5})
    assert llm.complete(PROMPT).text == whole[: whole.index(stop)]
    assert llm.complete(PROMPT, stop=[]).text == whole


def test_past_a_dead_replica(vllm_server: Server, client: VllmServer) -> None:
    llm = connect(vllm_server, base_url=DEAD, replicas=[vllm_server.url], retries=0)
    expected = client.complete(PROMPT).text
    assert [llm.complete(PROMPT).text for _ in range(3)] == [expected] * 3
    assert asyncio.run(llm.acomplete(PROMPT)).text == expected


async def test_cancelling_a_stream(client: VllmServer) -> None:
    stream = await client.astream_complete(PROMPT, max_tokens=900, ignore_eos=True)
    await anext(aiter(stream))
    await stream.aclose()
    assert (await client.acomplete(PROMPT)).text


def test_copies_have_connections_of_their_own(client: VllmServer) -> None:
    handler = CallbackManager([TokenCountingHandler(tokenizer=lambda _: [])])
    llm = client.model_copy(update={"callback_manager": handler})
    expected = client.complete(PROMPT).text
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(deep=True)):
        assert other.callback_manager is handler
        assert other.complete(PROMPT).text == expected
        assert other.count_tokens(PROMPT) == client.count_tokens(PROMPT)
        other.close()
    assert copy.deepcopy(llm).additional_kwargs is not llm.additional_kwargs
    assert llm.complete(PROMPT).text == expected


async def test_a_pickle_connects_again(client: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = client.model_copy(update={"max_tokens": 3})
    pickled = pickle.dumps(lowered)
    assert KEY.encode() not in pickled
    with pytest.raises(LLMError, match="asks for an API key"):
        pickle.loads(pickled).complete(PROMPT)
    monkeypatch.setenv("RAG_APP_LLM__API_KEY", KEY)
    other = pickle.loads(pickled)
    assert other.metadata == lowered.metadata
    assert (await other.acomplete(PROMPT)).text == lowered.complete(PROMPT).text
    assert other.count_tokens(PROMPT) == client.count_tokens(PROMPT)
    assert cloudpickle.loads(cloudpickle.dumps(lowered)).complete(PROMPT).text


def test_stopped_in_the_middle_and_started_again(vllm_server: Server, client: VllmServer) -> None:
    expected = client.complete(PROMPT).text
    stream = client.stream_complete(PROMPT, max_tokens=900, ignore_eos=True)
    next(stream)
    vllm_server.kill()
    with pytest.raises(LLMError, match="in the middle of the answer"):
        list(stream)
    began = time.monotonic()
    with pytest.raises(LLMError, match="no LLM server answers"):
        client.complete(PROMPT)
    assert time.monotonic() - began < 10
    vllm_server.start()
    vllm_server.wait()
    assert client.complete(PROMPT).text == expected
    assert client.metadata.context_window == WINDOW
