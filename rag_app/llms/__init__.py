"""The LLM backends, and the factory that chooses one by ``llm.backend``.

In: `[llm]`. Out: a `PackableLLM`, which is a LlamaIndex `LLM` that also counts tokens.
Read this file first, then `vllm_server.py` (an endpoint) or `vllm_engine.py` (in this process).
No backend stands in for another: what is configured and cannot run is an error with the remedy.
"""

from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import LLM, CompletionResponse

from rag_app.config.sections import LLMSection
from rag_app.errors import ConfigError, LLMError, LLMUnavailableError, RagAppError
from rag_app.registry import Registry

if TYPE_CHECKING:
    from rag_app.llms.vllm_engine import Vllm, VllmEngine
    from rag_app.llms.vllm_server import VllmServer

_HOMES = {
    "Vllm": "rag_app.llms.vllm_engine",
    "VllmEngine": "rag_app.llms.vllm_engine",
    "VllmServer": "rag_app.llms.vllm_server",
}
__all__ = [
    "BACKENDS",
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

    A subclass counts tokens; what else there is does without the model's own ways. None of it is
    an abstract method: LlamaIndex makes a span of its own of each call of a method that implements
    one, and tokens are counted often.
    """

    def count_text_tokens(self, text: str) -> int:
        """Count a text in the model's own tokens, without chat template and special tokens."""
        raise NotImplementedError

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt in the model's own tokens, chat template included where one is applied."""
        return self.count_text_tokens(prompt)

    def special_tokens(self) -> frozenset[str]:
        """Return what its tokenizer takes for a token of its own; empty: it is not at hand."""
        return frozenset()

    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        """Answer many prompts together; yield each one's index and answer as it is finished.

        A prompt that cannot be answered has its error in place of an answer, and does not stop the
        rest. Closing the generator ends what is under way. Without a way of its own to do that, a
        model answers them one after the other.

        Raises
        ------
        LLMUnavailableError
            If no prompt could be answered any more.
        """
        for index, prompt in enumerate(prompts):
            try:
                reply: Reply = self.complete(prompt, **kwargs)
            except LLMUnavailableError:
                raise
            except LLMError as error:
                reply = error
            yield index, reply

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens were looked up in the prefix cache so far, and found."""
        return 0, 0

    def forget_prefixes(self) -> dict[str, Any]:
        """Return what to ask with (keyword arguments) so that no prompt of before is cached."""
        return {}

    def close(self) -> None:
        """Free what it holds."""


def build_llm(section: LLMSection) -> PackableLLM:
    """Build the LLM of the configured backend.

    Raises
    ------
    ConfigError
        If ``llm.backend`` is "extractive", which has no LLM.
    LLMError
        If the backend cannot run here, with the remedy.
    ExtensionError
        If the backend is another package's, and cannot be used.
    """
    if section.backend == "extractive":
        raise ConfigError(
            'llm.backend is "extractive", which answers without an LLM',
            "set llm.backend to " + " or ".join(f'"{name}"' for name in BACKENDS),
        )
    return BACKENDS[section.backend](section)


def _build_engine(section: LLMSection) -> PackableLLM:
    from rag_app.llms.vllm_engine import build_vllm_engine

    return build_vllm_engine(section)


def _build_server(section: LLMSection) -> PackableLLM:
    from rag_app.llms.vllm_server import build_vllm_server

    return build_vllm_server(section)


BACKENDS: Registry[Callable[[LLMSection], PackableLLM]] = Registry(
    "rag_app.llms",
    "LLM backend",
    {"vllm": _build_engine, "vllm-server": _build_server},
    takes="function of a rag_app.config.sections.LLMSection",
    fits=callable,
    reserved=("extractive",),
)
"""What builds an LLM, by ``llm.backend``."""


def check_llm(section: LLMSection) -> str:
    """Say what would answer, without asking it anything and without loading a model.

    Raises
    ------
    ConfigError, LLMError
        If the backend cannot run here, with the remedy.
    """
    llm = build_llm(section)
    # Its metadata would load the model.
    if section.backend == "vllm":
        return f"vllm: {section.model}, loaded when it is first asked"
    window = f"{llm.metadata.context_window} tokens"
    known = (llm.metadata.model_name, window, getattr(llm, "how_it_counts", ""))
    return f"{section.backend}: {', '.join(filter(None, known))}"


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # imported when first used: each brings a library of its own
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
