"""LlamaIndex's messages → OpenAI's dictionaries, which chat templates and vLLM's parsers take."""

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage, MessageRole, TextBlock

from rag_app.errors import InputError


def plain_messages(
    messages: Sequence[ChatMessage], *, for_template: bool = True
) -> list[dict[str, Any]]:
    """Return messages as dictionaries: texts, calls of tools, and what tools have returned.

    What a model thought is left out: templates show it the answers alone.

    Parameters
    ----------
    for_template
        Arguments of calls are objects, which templates write as the model does; else they are JSON.

    Raises
    ------
    InputError
        If a message has an image or the like.
    """
    return [_plain(message, for_template) for message in messages]


def _plain(message: ChatMessage, for_template: bool) -> dict[str, Any]:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolCallBlock):
            calls.append(_call(block, for_template))
        elif not isinstance(block, ThinkingBlock):
            raise InputError(
                f"a message has a {type(block).__name__}, and only text is sent to the engine",
                "send text alone",
            )
    plain: dict[str, Any] = {"role": message.role.value, "content": "\n".join(texts)}
    if calls:
        plain["tool_calls"] = calls
    if message.role == MessageRole.TOOL:
        plain["tool_call_id"] = str(message.additional_kwargs.get("tool_call_id", ""))
    return plain


def _call(block: ToolCallBlock, for_template: bool) -> dict[str, Any]:
    given: Any = block.tool_kwargs
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError:  # a call that was broken off
            given = {}
    return {
        "id": block.tool_call_id or "",
        "type": "function",
        "function": {
            "name": block.tool_name,
            "arguments": given if for_template else json.dumps(given),
        },
    }
