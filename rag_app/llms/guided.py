"""Function calling and structured output, by a grammar that the model cannot leave.

What LlamaIndex's `FunctionCallingLLM` asks of an LLM, on top of a `chat` that takes ``tools`` (by
OpenAI's names) and ``structured_outputs`` (vLLM's).
"""

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.program.streaming_utils import process_streaming_content_incremental
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import BaseTool
from llama_index.core.types import PydanticProgramMode
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel, ValidationError

from rag_app.errors import LLMError, first_line

M = TypeVar("M", bound=BaseModel)
_dispatcher = get_dispatcher(__name__)


class GuidedLLM(FunctionCallingLLM):
    """An LLM whose calls of tools and whose objects are what they have to be.

    With ``pydantic_program_mode`` at its default objects are guided; other modes are LlamaIndex's.
    """

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what `chat` is called with."""
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        messages = [*(chat_history or []), *([user_msg] if user_msg is not None else [])]
        if not tools:
            return {"messages": messages, **kwargs}
        # LlamaIndex's limit of 1,024 characters for a description is OpenAI's, not vLLM's.
        described = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        for each in described:
            each["function"]["strict"] = True  # vLLM: the arguments keep to their schema
        return {
            "messages": messages,
            "tools": described,
            "tool_choice": _choice(tool_choice, tool_required),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Keep the first call where only one was allowed."""
        message = response.message
        calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        if not allow_parallel_tool_calls and len(calls) > 1:
            message.blocks = [block for block in message.blocks if block not in calls[1:]]
            message.additional_kwargs["tool_calls"] = message.additional_kwargs["tool_calls"][:1]
        return response

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls of tools in a response; of a stream's, as far as they have come.

        Raises
        ------
        LLMError
            If there are none, and there had to be.
        """
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise LLMError(
                "the model called no tool"
                + (", and used all tokens that it may" if _is_cut(response) else ""),
                "raise llm.max_tokens, or require a call: tool_required=True",
            )
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "",
                tool_name=call.tool_name,
                tool_kwargs=_arguments(call.tool_kwargs),
            )
            for call in calls
        ]

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """Have an object made; the model is told its schema, and kept to it.

        Raises
        ------
        LLMError
            If ``max_tokens`` is too few for it, or it does not pass the class's own checks.
        """
        if not self._is_guided:
            made: M = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return made
        _say_start(output_cls, prompt, prompt_args)
        messages = self._asking_for(output_cls, prompt, prompt_args)
        response = self.chat(messages, **_guided(output_cls, llm_kwargs))
        return _said(_made(output_cls, response))

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> M:
        """Do as `structured_predict`. Raises the same."""
        if not self._is_guided:
            made: M = await super().astructured_predict(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
            return made
        _say_start(output_cls, prompt, prompt_args)
        messages = self._asking_for(output_cls, prompt, prompt_args)
        response = await self.achat(messages, **_guided(output_cls, llm_kwargs))
        return _said(_made(output_cls, response))

    def _structured_stream_call(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        if not self._is_guided:
            yield from super()._structured_stream_call(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
            return
        messages = self._asking_for(output_cls, prompt, prompt_args)
        made: Any = None
        with closing(self.stream_chat(messages, **_guided(output_cls, llm_kwargs))) as responses:
            for response in responses:
                made = process_streaming_content_incremental(response, output_cls, made)
                yield made

    async def _structured_astream_call(
        self,
        output_cls: type[M],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        if not self._is_guided:
            return await super()._structured_astream_call(
                output_cls, prompt, llm_kwargs, **prompt_args
            )
        messages = self._asking_for(output_cls, prompt, prompt_args)
        stream = await self.astream_chat(messages, **_guided(output_cls, llm_kwargs))

        async def objects() -> AsyncGenerator[Any, None]:
            made: Any = None
            async with aclosing(stream) as responses:
                async for response in responses:
                    made = process_streaming_content_incremental(response, output_cls, made)
                    yield made

        return objects()

    @property
    def _is_guided(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.DEFAULT

    def _asking_for(
        self, output_cls: type[BaseModel], prompt: PromptTemplate, given: Mapping[str, Any]
    ) -> list[ChatMessage]:
        # The grammar keeps the model to the schema, but only the prompt says what its fields mean.
        messages = self._extend_messages(prompt.format_messages(llm=self, **given))
        return PydanticOutputParser(output_cls).format_messages(messages)


def _choice(asked: str | dict[str, Any] | None, required: bool) -> str | dict[str, Any]:
    if asked is None:
        return "required" if required else "auto"
    if isinstance(asked, dict) or asked in {"none", "auto", "required"}:
        return asked
    return {"type": "function", "function": {"name": asked}}


def _arguments(given: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    try:
        found = parse_partial_json(given) if given.strip() else {}
    except (ValueError, TypeError, IndexError):  # so little of it that it means nothing yet
        return {}
    return found if isinstance(found, dict) else {}


def _guided(output_cls: type[BaseModel], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    schema = json.dumps(output_cls.model_json_schema())
    return {"structured_outputs": {"json": schema}, **(asked or {})}


def _made(output_cls: type[M], response: ChatResponse) -> M:
    try:
        return output_cls.model_validate_json(response.message.content or "")
    except ValidationError as error:
        if _is_cut(response):
            raise LLMError(
                f"the model used all tokens that it may, and its {output_cls.__name__} is not "
                "finished",
                "raise llm.max_tokens",
            ) from error
        raise LLMError(
            f"the model's {output_cls.__name__} does not pass its own checks: {first_line(error)}",
            "say in its fields' descriptions what they take, or ask again",
        ) from error


def _is_cut(response: ChatResponse) -> bool:
    return response.additional_kwargs.get("finish_reason") == "length"


# LlamaIndex's own method sends these two events, and is not called where objects are guided.
def _say_start(output_cls: type[BaseModel], prompt: PromptTemplate, given: dict[str, Any]) -> None:
    _dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=given)
    )


def _said(made: M) -> M:
    _dispatcher.event(LLMStructuredPredictEndEvent(output=made))
    return made
