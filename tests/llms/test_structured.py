"""Objects that are what they have to be, and what else of vLLM's a call may ask for."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field, field_validator

from rag_app.errors import InputError, LLMError
from rag_app.llms import Vllm, VllmEngine, VllmServer
from tests.llms.conftest import Server, connect

Llm = Vllm | VllmServer
PROMPT = PromptTemplate("Which way shall I turn at the {place}?")
CHAT = [ChatMessage(content="Which way?")]


class Way(BaseModel):
    """A way."""

    direction: Literal["left", "right"] = Field(description="the side that the river is on")
    steps: list[Literal["one", "two"]] = Field(min_length=2, max_length=3)
    back: bool


class Picky(BaseModel):
    """It takes no answer."""

    direction: Literal["left", "right"]

    @field_validator("direction")
    @classmethod
    def _none(cls, value: str) -> str:
        raise ValueError("neither is right")


@pytest.fixture(params=["engine", "server"])
def guided(request: pytest.FixtureRequest, caller: Vllm) -> Llm:
    """Both backends; on the engine no parser of tools is needed."""
    if request.param == "engine":
        return caller.model_copy(update={"tool_parser": ""})
    server: Server = request.getfixturevalue("vllm_server")
    bias = {str(token): weight for token, weight in caller.sampling["logit_bias"].items()}
    return connect(server, max_tokens=96, sampling={"logit_bias": bias})


async def test_objects_are_guided(guided: Llm) -> None:
    whole = await asyncio.to_thread(guided.structured_predict, Way, PROMPT, place="bridge")
    assert isinstance(whole, Way)
    assert await guided.astructured_predict(Way, PROMPT, place="bridge") == whole
    streamed = await asyncio.to_thread(
        lambda: list(guided.stream_structured_predict(Way, PROMPT, place="bridge"))
    )
    assert streamed[-1] == whole
    assert any(each != whole for each in streamed)
    stream = await guided.astream_structured_predict(Way, PROMPT, place="bridge")
    assert [each async for each in stream][-1] == whole


def test_as_a_structured_llm(guided: Llm) -> None:
    structured = guided.as_structured_llm(Way)
    response = structured.chat(CHAT)
    assert isinstance(response.raw, Way)
    assert Way.model_validate_json(response.message.content or "") == response.raw
    assert structured.complete("Which way?").raw == response.raw


def test_the_model_is_told_what_fields_mean(
    caller: Vllm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    prompts = caller._shared.prompts()
    made = prompts.of_messages

    def of_messages(messages: list[ChatMessage], **template: Any) -> list[int]:
        asked.extend(message.content or "" for message in messages)
        return made(messages, **template)

    monkeypatch.setattr(prompts, "of_messages", of_messages)
    caller.structured_predict(Way, PROMPT, place="bridge")
    assert "at the bridge?" in asked[0]
    assert "the side that the river is on" in asked[0]


def test_objects_that_cannot_be(caller: Vllm) -> None:
    with pytest.raises(LLMError, match=r"used all tokens.*\n.*llm.max_tokens"):
        caller.structured_predict(Way, PROMPT, llm_kwargs={"max_tokens": 5}, place="bridge")
    with pytest.raises(LLMError, match="does not pass its own checks"):
        caller.structured_predict(Picky, PROMPT, place="bridge")


def test_llama_indexs_other_modes_are_left(caller: Vllm) -> None:
    class Side(BaseModel):
        """A side."""

        direction: Literal["left", "right"]

    llm = caller.model_copy(update={"pydantic_program_mode": PydanticProgramMode.FUNCTION})
    assert isinstance(llm.structured_predict(Side, PROMPT, place="bridge"), Side)


def test_guides_by_vllms_names(engine: VllmEngine) -> None:
    for guide in ({"choice": ["left", "right"]}, {"regex": "left|right"}):
        assert engine.complete("Where?", structured_outputs=guide).text in {"left", "right"}
        chat = engine.chat(CHAT, structured_outputs=guide, logprobs=1)
        assert chat.message.content in {"left", "right"}
        assert chat.logprobs is not None
        assert "".join(each[0].token for each in chat.logprobs).startswith(chat.message.content)


TEMPLATE = "{% for message in messages %}{{ message.content }} {{ mood }}{% endfor %}"


def test_variables_of_the_chat_template(engine: VllmEngine) -> None:
    def prompt(llm: Vllm, **asked: Any) -> str:
        request, _ = llm._chat_request(CHAT, {"chat_template": TEMPLATE, **asked})
        return str(llm._shared.prompts().tokenizer.decode(request.tokens))

    merry = engine.model_copy(update={"chat_template_kwargs": {"mood": "merrily"}})
    assert prompt(engine) == "Which way? "
    assert prompt(merry) == "Which way? merrily"
    assert prompt(merry, chat_template_kwargs={"mood": "sadly"}) == "Which way? sadly"
    text = engine.complete("Which way?", chat_template_kwargs={"mood": "sadly"}).text
    assert text == engine.complete("Which way?").text, "this template has no such variable"


def test_an_adapter_reaches_vllm(engine: VllmEngine, tmp_path: Path) -> None:
    from vllm.lora.request import LoRARequest

    adapter = LoRARequest("one", 1, str(tmp_path))
    with pytest.raises(InputError, match="LoRA"):  # the session's engine was started without
        engine.complete("Which way?", lora_request=adapter)
    assert engine.complete("Which way?").text
