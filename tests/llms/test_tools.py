"""Function calling on the engine: what the model is told, what guides it, what it has called."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from rag_app.errors import ConfigError, InputError, LLMError
from rag_app.llms import Vllm, VllmEngine, build_llm
from rag_app.llms.engine_requests import Piece
from rag_app.llms.serve import server_command
from rag_app.llms.tool_calls import ToolReader
from tests.llms.conftest import ENGINE, Server, connect, section

Direction = Literal["left", "right"]
TALK = [ChatMessage(content="Turn, please.")]


def turn(direction: Direction, twice: bool) -> str:
    """Turn round."""
    return f"turned {direction}{' twice' if twice else ''}"


def stop(now: bool) -> str:
    """Stop."""
    return "stopped"


TOOLS = [FunctionTool.from_defaults(turn), FunctionTool.from_defaults(stop)]


def called(llm: Vllm, response: ChatResponse) -> list[tuple[str, dict[str, Any]]]:
    found = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return [(call.tool_name, call.tool_kwargs) for call in found]


def is_turn(call: tuple[str, dict[str, Any]]) -> bool:
    name, given = call
    return name == "turn" and given.keys() == {"direction", "twice"} and bool(turn(**given))


def test_it_is_a_function_calling_llm(caller: Vllm, engine: VllmEngine) -> None:
    assert isinstance(caller, FunctionCallingLLM)
    assert caller.metadata.is_function_calling_model
    assert not engine.metadata.is_function_calling_model, "no parser is named"


@pytest.mark.parametrize("parser", ["hermes", "pythonic", "xlam", ""])
def test_a_required_call_is_one_of_the_tools(caller: Vllm, parser: str) -> None:
    llm = caller.model_copy(update={"tool_parser": parser})
    response = llm.chat_with_tools(TOOLS, "Turn, please.", tool_required=True)
    ((name, given),) = called(llm, response)
    tool = {tool.metadata.name: tool for tool in TOOLS}[name]
    assert tool(**given).raw_output
    assert response.additional_kwargs["finish_reason"] == "stop"


def test_a_named_call(caller: Vllm) -> None:
    response = caller.chat_with_tools(TOOLS, chat_history=TALK, tool_choice="turn")
    (call,) = called(caller, response)
    assert is_turn(call)
    assert len(TALK) == 1, "the conversation is its owner's"
    streamed = list(caller.stream_chat_with_tools(TOOLS, chat_history=TALK, tool_choice="turn"))
    assert called(caller, streamed[-1]) == [call]
    assert len(streamed) > 2


async def test_a_named_call_from_a_loop(caller: Vllm) -> None:
    response = await caller.achat_with_tools(TOOLS, chat_history=TALK, tool_choice="turn")
    (call,) = called(caller, response)
    assert is_turn(call)
    stream = await caller.astream_chat_with_tools(TOOLS, chat_history=TALK, tool_choice="turn")
    assert called(caller, [piece async for piece in stream][-1]) == [call]


def test_predict_and_call(caller: Vllm) -> None:
    response = caller.predict_and_call(TOOLS, chat_history=TALK, tool_choice="turn")
    assert str(response).startswith("turned")


def test_left_to_itself_the_model_answers_with_text(caller: Vllm, engine: VllmEngine) -> None:
    response = caller.chat_with_tools(TOOLS, chat_history=TALK, max_tokens=16)
    assert response.message.content
    assert not called(caller, response)
    with pytest.raises(LLMError, match="called no tool"):
        caller.get_tool_calls_from_response(response)
    plain = caller.chat_with_tools([], chat_history=TALK, max_tokens=16)
    told = engine.model_copy(update={"sampling": caller.sampling}).chat(TALK, max_tokens=16)
    assert plain.message.content == told.message.content


def test_the_model_is_told_of_tools_and_calls(caller: Vllm) -> None:
    tokenizer = caller._shared.prompts().tokenizer
    history = [
        *TALK,
        ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[
                ToolCallBlock(tool_call_id="1", tool_name="turn", tool_kwargs='{"twice": true}')
            ],
        ),
        ChatMessage(
            role=MessageRole.TOOL, content="turned", additional_kwargs={"tool_call_id": "1"}
        ),
    ]
    asked = caller._prepare_chat_with_tools(TOOLS, chat_history=history)
    request, _ = caller._chat_request(asked.pop("messages"), asked)
    prompt = tokenizer.decode(request.tokens)
    assert "Turn round." in prompt
    assert '<tool_call>\n{"name": "turn", "arguments": {"twice": true}}\n</tool_call>' in prompt
    assert "<|tool|>\nturned" in prompt


CALLS = {
    "hermes": 'I turn.<tool_call>\n{"name": "turn", "arguments": {"direction": "left", '
    '"twice": true}}\n</tool_call><tool_call>\n{"name": "stop", "arguments": {"now": false}}\n'
    "</tool_call>",
    "pythonic": '[turn(direction="left", twice=True), stop(now=False)]',
}


@pytest.mark.parametrize("parser", CALLS)
def test_calls_are_found_in_text(caller: Vllm, parser: str) -> None:
    prompts = caller._shared.prompts()
    model = caller.engine.model_config
    asked = caller._prepare_chat_with_tools(
        TOOLS, chat_history=TALK, allow_parallel_tool_calls=True
    )
    messages = asked.pop("messages")

    def reader() -> ToolReader:
        return ToolReader(model, prompts.tokenizer, parser, messages, asked, {})

    tokens = prompts.tokenizer.encode(CALLS[parser], add_special_tokens=False)
    expected = [("turn", {"direction": "left", "twice": True}), ("stop", {"now": False})]
    whole = reader().whole(piece(CALLS[parser], tokens, "stop"))
    assert called(caller, whole) == expected
    assert whole.message.content == ("I turn." if parser == "hermes" else None)
    streaming = reader()
    seen: list[ChatResponse] = []
    for index, token in enumerate(tokens):
        end = "stop" if index == len(tokens) - 1 else None
        new = streaming.next(piece(prompts.tokenizer.decode([token]), [token], end), [1, 2])
        seen += [] if new is None else [new]
    assert called(caller, seen[-1]) == expected
    assert "".join(each.delta or "" for each in seen) == (whole.message.content or "")
    partial = [len(called(caller, each)) for each in seen]
    assert partial == sorted(partial)
    if parser == "hermes":
        one = caller._validate_chat_with_tools_response(whole, TOOLS)
        assert called(caller, one) == expected[:1]


def piece(text: str, tokens: Sequence[int], end: str | None) -> Piece:
    return Piece(0, text, 2, 0, len(tokens), end, tokens)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the agent's own, of pydantic
async def test_a_function_agent_runs(caller: Vllm) -> None:
    agent = FunctionAgent(
        tools=[turn, stop], llm=caller, initial_tool_choice="turn", streaming=True
    )
    running = agent.run("Turn, please.")
    events = [event async for event in running.stream_events()]
    results = [event for event in events if isinstance(event, ToolCallResult)]
    assert [(event.tool_name, event.tool_output.is_error) for event in results] == [("turn", False)]
    assert str(results[0].tool_output).startswith("turned")
    answer = await running
    assert str(answer)


class Turn(BaseModel):
    """A turn."""

    direction: Direction
    twice: bool


def test_a_program_of_llama_indexs(caller: Vllm) -> None:
    program = FunctionCallingProgram.from_defaults(
        output_cls=Turn, prompt_template_str="Turn, please.", llm=caller
    )
    assert isinstance(program(), Turn)


@pytest.mark.parametrize(
    ("values", "tools", "match"),
    [
        ({"tool_parser": ""}, {}, "no parser is named.*\n.*llm.tool_parser"),
        ({"is_chat_model": False}, {}, "do not go through a chat template"),
        ({}, {"chat_template": "{{ messages }}"}, "knows no tools.*\n.*chat_template"),
        ({}, {"tool_choice": "jump"}, "jump"),
        ({"tool_parser": ""}, {"tool_choice": "jump"}, "jump"),
    ],
)
def test_what_cannot_be(
    caller: Vllm, values: dict[str, Any], tools: dict[str, Any], match: str
) -> None:
    llm = caller.model_copy(update=values)
    with pytest.raises(InputError, match=match):
        llm.chat_with_tools(TOOLS, chat_history=TALK, **tools)


@pytest.mark.usefixtures("llama")
def test_an_unknown_parser() -> None:
    with pytest.raises(ConfigError, match=r"'hermez'.*\n.*'hermes'"):
        build_llm(section(backend="vllm", model="x", engine=ENGINE, tool_parser="hermez"))


def test_a_parser_that_does_not_fit(caller: Vllm) -> None:
    llm = caller.model_copy(update={"tool_parser": "llama3_json"})
    with pytest.raises(ConfigError, match=r"'llama3_json', which does not fit.*python_tag"):
        llm.chat_with_tools(TOOLS, chat_history=TALK)


async def test_calls_on_a_server(caller: Vllm, vllm_server: Server) -> None:
    bias = {str(token): weight for token, weight in caller.sampling["logit_bias"].items()}
    llm = connect(vllm_server, max_tokens=96, tool_parser="hermes", sampling={"logit_bias": bias})
    assert llm.metadata.is_function_calling_model
    response = await llm.achat_with_tools(TOOLS, chat_history=TALK[:], tool_choice="turn")
    ours = await caller.achat_with_tools(TOOLS, chat_history=TALK, tool_choice="turn")
    (theirs,) = llm.get_tool_calls_from_response(response)
    assert [(theirs.tool_name, theirs.tool_kwargs)] == called(caller, ours)


def test_the_server_is_started_with_the_parser() -> None:
    command = server_command(section(backend="vllm", model="m", tool_parser="hermes"))
    flags = " ".join(command.arguments)
    assert "--enable-auto-tool-choice --tool-call-parser hermes" in flags
