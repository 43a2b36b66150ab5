"""What LlamaIndex leaves out of a server's replies, and what may not stand in them."""

from typing import TypeVar

from llama_index.core.base.llms.types import TextBlock, ThinkingBlock
from llama_index.core.llms import ChatResponse, CompletionResponse

from rag_app.errors import LLMError

R = TypeVar("R", ChatResponse, CompletionResponse)

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def tidied(reply: R) -> R:
    """Complete a reply in place, and return it.

    ``additional_kwargs`` get ``finish_reason`` and the ``reasoning`` so far, where the server sends
    them; token counts that are no numbers go, and so do halves of characters, which nobody can
    print.
    """
    about = reply.additional_kwargs
    for name in _COUNTS:
        if not isinstance(about.get(name, 0), int):
            del about[name]
    for choice in (getattr(reply.raw, "choices", None) or [])[:1]:
        if isinstance(choice.finish_reason, str):
            about["finish_reason"] = choice.finish_reason
    if isinstance(reply, ChatResponse):
        for block in reply.message.blocks:
            if isinstance(block, TextBlock):
                block.text = _printable(block.text)
            elif isinstance(block, ThinkingBlock) and block.content:
                about["reasoning"] = _printable(block.content)
    else:
        reply.text = _printable(reply.text)
    if reply.delta:
        reply.delta = _printable(reply.delta)
    return reply


def empty_answer(reply: CompletionResponse) -> LLMError:
    """Say why a reply has no text."""
    about = reply.additional_kwargs
    if about.get("finish_reason") == "length":
        tokens = about.get("completion_tokens")
        return LLMError(
            f"the model used all {f'{tokens} ' if tokens else ''}tokens that it may "
            + ("for its reasoning" if about.get("reasoning") else "and wrote no text")
            + ", and has not begun to answer",
            "raise llm.max_tokens"
            + (", or turn the model's reasoning off" if about.get("reasoning") else ""),
        )
    return LLMError(
        "the model answered nothing"
        + (" after its reasoning" if about.get("reasoning") else "")
        + (f" (finish_reason {about['finish_reason']!r})" if about.get("finish_reason") else ""),
        "ask again, or in other words; llm.endpoint and prompt.template have to fit the model",
    )


def _printable(text: str) -> str:
    # UTF-16 joins two halves of a character that came apart; one that is alone is replaced.
    return (
        text
        if text.isascii()
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
