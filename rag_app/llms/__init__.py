"""The LLM backends, and the factory that chooses one by ``llm.backend``.

No backend stands in for another: what is configured and cannot run is an error with the remedy.
"""

from collections.abc import Generator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import LLM, CompletionResponse

from rag_app.config.sections import LLMSection
from rag_app.errors import ConfigError, RagAppError

if TYPE_CHECKING:
    from rag_app.llms.vllm_engine import Vllm, VllmEngine
    from rag_app.llms.vllm_server import VllmServer

_HOMES = {
    "Vllm": "rag_app.llms.vllm_engine",
    "VllmEngine": "rag_app.llms.vllm_engine",
    "VllmServer": "rag_app.llms.vllm_server",
}
__all__ = [
    "PackableLLM",
    "Reply",
    "Vllm",
    "VllmEngine",
    "VllmServer",
    "build_llm",
    "check_llm",
]

Reply = CompletionResponse | RagAppError
"""What comes of a prompt among many: an answer, or why there is none."""


class PackableLLM(LLM):
    """A LlamaIndex `LLM` whose window can be packed exactly.

    A subclass has all of these methods. They are not abstract ones: LlamaIndex makes a span of its
    own of each call of a method that implements one, and tokens are counted often.
    """

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt in the model's own tokens, chat template included where one is applied."""
        raise NotImplementedError

    def count_text_tokens(self, text: str) -> int:
        """Count a text in the model's own tokens, without chat template and special tokens."""
        raise NotImplementedError

    def special_tokens(self) -> frozenset[str]:
        """Return what its tokenizer takes for a token of its own; empty: it is not at hand."""
        return frozenset()

    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        """Answer many prompts together; yield each one's index and answer as it is finished.

        A prompt that cannot be answered has its error in place of an answer, and does not stop the
        rest. Closing the generator ends what is under way.

        Raises
        ------
        LLMUnavailableError
            If no prompt could be answered any more.
        """
        raise NotImplementedError

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens were looked up in the prefix cache so far, and found."""
        raise NotImplementedError

    def forget_prefixes(self) -> dict[str, Any]:
        """Return what to ask with (keyword arguments) so that no prompt of before is cached."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what it holds."""
        raise NotImplementedError


def build_llm(section: LLMSection) -> PackableLLM:
    """Build the LLM of the "vllm" or "vllm-server" backend.

    Raises
    ------
    ConfigError
        If ``llm.backend`` is "extractive", which has no LLM.
    LLMError
        If the backend cannot run here, with the remedy.
    """
    if section.backend == "vllm-server":
        from rag_app.llms.vllm_server import build_vllm_server

        return build_vllm_server(section)
    if section.backend == "vllm":
        from rag_app.llms.vllm_engine import build_vllm_engine

        return build_vllm_engine(section)
    raise ConfigError(
        f'llm.backend is "{section.backend}", which answers without an LLM',
        'set llm.backend to "vllm" or "vllm-server"',
    )


def check_llm(section: LLMSection) -> str:
    """Say what would answer, without asking it anything and without loading a model.

    Raises
    ------
    ConfigError, LLMError
        If the backend cannot run here, with the remedy.
    """
    llm = build_llm(section)
    if section.backend == "vllm":
        return f"vllm: {section.model}, loaded when it is first asked"
    counts = getattr(llm, "how_it_counts", "")
    return (
        f"{section.backend}: {llm.metadata.model_name}, {llm.metadata.context_window} tokens, "
        f"{counts}"
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # imported when first used: each brings a library of its own
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
