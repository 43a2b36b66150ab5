"""What the engine's thread hands out → LlamaIndex's responses."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import LogProb
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)

from rag_app.llms.engine_requests import Piece


def completion(piece: Piece, text: str | None = None) -> CompletionResponse:
    """Make LlamaIndex's response of a piece; `text` is the whole text so far, of a stream."""
    usage = {
        "prompt_tokens": piece.prompt_tokens,
        "cached_tokens": piece.cached_tokens,
        "completion_tokens": piece.completion_tokens,
        "total_tokens": piece.prompt_tokens + piece.completion_tokens,
    }
    return CompletionResponse(
        text=piece.text if text is None else text,
        delta=None if text is None else piece.text,
        # In both: LlamaIndex's token counter reads `raw`, and we read the other.
        raw={"usage": usage, "finish_reason": piece.finish_reason},
        logprobs=None if piece.logprobs is None else [_likeliest(each) for each in piece.logprobs],
        additional_kwargs={**usage, "finish_reason": piece.finish_reason},
    )


class ChatReader:
    """Makes LlamaIndex's responses of one answer of a chat, whole or piece by piece."""

    def __init__(self) -> None:
        self._text = ""

    def whole(self, piece: Piece) -> ChatResponse:
        """Read a whole answer."""
        return _chat(completion(piece))

    def next(self, piece: Piece, prompt: Sequence[int]) -> ChatResponse | None:
        """Read the next piece of an answer to a prompt of these tokens; None: nothing is new."""
        self._text += piece.text
        return _chat(completion(piece, self._text))


def _chat(response: CompletionResponse) -> ChatResponse:
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def _likeliest(position: Mapping[int, Any]) -> list[LogProb]:
    """Make LlamaIndex's log probabilities of vLLM's for one token: the chosen one comes first."""
    return [
        LogProb(
            token=found.decoded_token or "",
            logprob=found.logprob,
            bytes=list((found.decoded_token or "").encode()),
        )
        for found in position.values()
    ]
