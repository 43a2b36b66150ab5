"""Calls of tools, by vLLM's own parsers: what guides a model to them, and what it has called.

Each model writes its calls in its own way; vLLM has a parser for each (its documentation: *Tool
Calling*), and a grammar that keeps the model to it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, MessageRole, TextBlock

from rag_app.errors import ConfigError, InputError
from rag_app.llms.engine_messages import plain_messages
from rag_app.llms.engine_replies import ChatReader, completion
from rag_app.llms.engine_requests import Piece

if TYPE_CHECKING:
    from vllm.config import ModelConfig

TOOL_ARGUMENTS = ("tools", "tool_choice", "parallel_tool_calls")
"""What a chat is asked with, by OpenAI's names."""


def check_tool_parser(name: str) -> None:
    """Refuse a name that is none of vLLM's parsers'.

    Raises
    ------
    ConfigError
        With names that are near.
    """
    from vllm.tool_parsers import ToolParserManager

    known = ToolParserManager.list_registered()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise ConfigError(
            f"llm.tool_parser is {name!r}, and vLLM has no such parser",
            (f"did you mean {' or '.join(map(repr, near))}? " if near else "")
            + f"vLLM has: {', '.join(known)}",
        )


@dataclass
class _Call:
    """A call of a tool, as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class _Answer:
    """What an answer consists of, as far as it has come."""

    thought: str = ""
    text: str = ""
    calls: list[_Call] = field(default_factory=list)

    def message(self) -> ChatMessage:
        blocks: list[Any] = [ThinkingBlock(content=self.thought)] if self.thought else []
        blocks += [TextBlock(text=self.text)] if self.text or not self.calls else []
        blocks += [
            ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments)
            for call in self.calls
        ]
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        if self.calls:  # where LlamaIndex's programs look whether there are any
            message.additional_kwargs["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.calls
            ]
        return message


class ToolReader(ChatReader):
    """Reads one answer of a model that was told of tools.

    Parameters
    ----------
    model
        The engine's configuration of the model.
    tokenizer
        The model's.
    parser
        One of vLLM's names; empty: none, which will do where a call is required.
    messages
        The conversation.
    asked
        The `TOOL_ARGUMENTS`, and ``structured_outputs`` where the text is guided, too.
    template
        Variables of the chat template.

    Attributes
    ----------
    sampling
        The sampling parameters that keep the model to what the parser reads.

    Raises
    ------
    ConfigError
        If there is no such parser.
    InputError
        If a call is left to the model, and there is no parser to find it; or vLLM takes the tools
        for none.
    """

    def __init__(
        self,
        model: "ModelConfig",
        tokenizer: Any,
        parser: str,
        messages: Sequence[ChatMessage],
        asked: Mapping[str, Any],
        template: Mapping[str, Any],
    ) -> None:
        super().__init__()
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        if not parser and asked.get("tool_choice", "auto") == "auto":
            raise InputError(
                "a call of a tool is left to the model, and no parser is named that finds it",
                'set llm.tool_parser (tool_parser of a Vllm), e.g. to "hermes" for Qwen or '
                '"llama3_json" for Llama 3, or require a call: tool_required=True',
            )
        try:
            request = ChatCompletionRequest(
                messages=plain_messages(messages, for_template=False), **asked
            )
        except Exception as error:  # pydantic's, or its own
            raise _refused(error, asked) from error
        self._parser = _make_parser(parser, model, tokenizer, request.tools, template)
        try:
            self._request = self._parser.adjust_request(request)
        except Exception as error:  # vLLM raises whatever it stumbles over
            raise _refused(error, asked) from error
        self.sampling: dict[str, Any] = {
            "skip_special_tokens": self._request.skip_special_tokens,
            "structured_outputs": self._request.structured_outputs,
        }
        self._answer = _Answer()

    def whole(self, piece: Piece) -> ChatResponse:
        """Read a whole answer."""
        thought, text, calls = self._parser.parse(
            piece.text,
            self._request,
            enable_auto_tools=True,
            model_output_token_ids=list(piece.tokens),
        )
        made = [_Call(call.id or "", call.name, call.arguments) for call in calls or []]
        return self._response(piece, _Answer(thought or "", text or "", made), None)

    def next(self, piece: Piece, prompt: Sequence[int]) -> ChatResponse | None:
        """Read the next piece; None while what comes may be the beginning of a call."""
        new = self._parser.parse_delta(
            piece.text,
            list(piece.tokens),
            self._request,
            list(prompt),
            finished=piece.finish_reason is not None,
        )
        # The last piece is handed out in any case: it tells the tokens and why the answer ended.
        if new is None and piece.finish_reason is None:
            return None
        if new is not None:
            self._answer.thought += new.reasoning or ""
            self._answer.text += new.content or ""
            for part in new.tool_calls:
                self._add(part)
        return self._response(piece, self._answer, (new.content if new else None) or "")

    def _add(self, part: Any) -> None:
        calls = self._answer.calls
        while len(calls) <= part.index:
            calls.append(_Call())
        call = calls[part.index]
        call.id = part.id or call.id
        if part.function is not None:
            call.name += part.function.name or ""
            call.arguments += part.function.arguments or ""

    @staticmethod
    def _response(piece: Piece, answer: _Answer, delta: str | None) -> ChatResponse:
        about = completion(piece)
        return ChatResponse(
            message=answer.message(),
            delta=delta,
            raw=about.raw,
            logprobs=about.logprobs,
            additional_kwargs=about.additional_kwargs,
        )


def _make_parser(
    name: str, model: "ModelConfig", tokenizer: Any, tools: Any, template: Mapping[str, Any]
) -> Any:
    from vllm.parser import ParserManager
    from vllm.parser.abstract_parser import DelegatingParser
    from vllm.tool_parsers import ToolParser

    # Defined in here, as its base comes with vLLM.
    class Required(DelegatingParser):  # type: ignore[misc]
        """Reads the calls that the grammar of a required call lets through."""

        tool_parser_cls = ToolParser

    kind: Any = Required
    if name:
        check_tool_parser(name)
        kind = ParserManager.get_parser(
            tool_parser_name=name,
            enable_auto_tools=True,
            model_name=model.model,
            is_harmony=model.hf_config.model_type == "gpt_oss",
        )
    try:
        return kind(tokenizer, tools, chat_template_kwargs=dict(template), model_config=model)
    except Exception as error:  # of a tokenizer without its marks
        raise ConfigError(
            f"llm.tool_parser is {name!r}, which does not fit {model.model!r}: {error}",
            "name the model's own parser: vLLM's documentation has them under Tool Calling",
        ) from error


def _refused(error: Exception, asked: Mapping[str, Any]) -> InputError:
    names = [tool["function"]["name"] for tool in asked["tools"]]
    return InputError(
        f"vLLM refuses the tools {', '.join(names)} with tool_choice {asked['tool_choice']!r}: "
        f"{error}",
        "change what the message names",
    )
