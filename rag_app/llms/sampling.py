"""Sampling parameters by vLLM's names, checked before a running engine sees them."""

import difflib
from collections.abc import Mapping
from typing import Any

from rag_app.errors import InputError

# Not the caller's to set: a stream needs one kind of output, a whole answer the other.
_OURS = ("output_kind", "skip_clone")


def sampling_parameters(asked: Mapping[str, Any], *, streaming: bool) -> Any:
    """Make vLLM's `SamplingParams`; a value of another type would end the engine for everybody.

    Raises
    ------
    InputError
        If vLLM does not know a name or take a value, or a response could not hold what is asked.
    """
    import msgspec
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    known = [name for name in SamplingParams.__struct_fields__ if not name.startswith("_")]
    known = [name for name in known if name not in _OURS]
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise InputError(
                f"{name!r} is no sampling parameter of vLLM's engine",
                f"did you mean {' or '.join(map(repr, near))}?"
                if near
                else "vLLM's documentation lists them under Sampling Parameters",
            )
    _refuse_what_has_no_place(asked)
    kind = RequestOutputKind.DELTA if streaming else RequestOutputKind.FINAL_ONLY
    try:
        # `SamplingParams` itself looks at no types. Not strict: in TOML the keys of logit_bias are
        # texts.
        return msgspec.convert(
            {**asked, "output_kind": kind.value}, type=SamplingParams, strict=False
        )
    except Exception as error:  # vLLM raises whatever it stumbles over
        raise InputError(
            f"vLLM refuses the sampling parameters: {str(error) or type(error).__name__}",
            "change what the message names, in the call or in llm.sampling",
        ) from error


def _refuse_what_has_no_place(asked: Mapping[str, Any]) -> None:
    """Refuse what LlamaIndex's responses, of one text and its own tokens, cannot hold."""
    if asked.get("n", 1) != 1:
        raise InputError(
            f"n is {asked['n']!r}, and a response holds one answer",
            "ask as often as you want answers: generate([prompt] * 3)",
        )
    if asked.get("prompt_logprobs") is not None:
        raise InputError(
            f"prompt_logprobs is {asked['prompt_logprobs']!r}, and a response holds those of the "
            "answer alone",
            "ask for logprobs, or ask vLLM itself (VllmEngine.engine)",
        )
