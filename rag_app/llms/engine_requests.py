"""What is asked of an engine's thread, and what it answers with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rag_app.errors import InputError, LLMError, RagAppError


@dataclass(frozen=True)
class Piece:
    """What one step added to an answer.

    Attributes
    ----------
    index
        Which of the prompts that were asked together.
    text
        New text; may be empty.
    prompt_tokens, cached_tokens, completion_tokens
        So far. Cached ones are those of the prompt that the prefix cache had.
    finish_reason
        "stop", "length", … on the last piece, else None.
    tokens
        Ids of the new tokens.
    logprobs
        Of the new tokens, as vLLM gives them; None where they were not asked for.
    error
        Why there will be no answer, on the last piece of a request that vLLM refuses.
    """

    index: int
    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str | None
    tokens: Sequence[int] = ()
    logprobs: Any = None
    error: InputError | None = None


@dataclass(frozen=True)
class Request:
    """A prompt as token ids, and vLLM's `SamplingParams` for it.

    Attributes
    ----------
    cache_salt
        The prefix cache has only what was asked with the same one; empty: with none.
    lora
        vLLM's `LoRARequest` of the adapter to answer with; None: the model as it is.
    """

    tokens: Sequence[int]
    sampling: Any
    cache_salt: str = ""
    lora: Any = None


Put = Callable[[Piece | RagAppError], None]
"""Takes a request's pieces, or why there are no more; called in the engine's thread."""


def closed() -> LLMError:
    """Return the error of an engine that is asked after it was closed."""
    return LLMError("the vLLM engine was closed", "build the LLM again")


def unanswered(reason: str) -> LLMError:
    """Return the error of a request that vLLM has accepted and not answered."""
    return LLMError(
        f"the vLLM engine gave a request up (its reason: {reason!r})",
        "its log has more, with VLLM_LOGGING_LEVEL=ERROR or lower in the environment",
    )


def again(error: RagAppError) -> RagAppError:
    """Copy an error: one that is raised again and again keeps the frames of every time."""
    copy = type(error)(error.message, error.remedy)
    copy.__cause__ = error.__cause__
    return copy
