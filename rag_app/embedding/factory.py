"""Config → the LlamaIndex embedding model, in the configured runtime. Knows all the runtimes.

Importing this module loads none of them, neither torch nor sentence-transformers (6 s): with a
compiled model a question is answered without them.
"""

import logging

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.base import Embedder
from rag_app.errors import ConfigError

_LOG = logging.getLogger("rag_app")


def build_embedder(section: EmbeddingSection) -> Embedder:
    """Load the embedding model; a compiled runtime compiles it first, once.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched, the runtime is not installed, or the model
        cannot be compiled.
    ConfigError
        If ``embedding.max_length`` is more than the model reads, or the device is not there.
    """
    if section.runtime == "torch":
        from rag_app.embedding.torch import load_with_torch  # 6 s

        return load_with_torch(section)
    return _load_compiled(section)


def describe(embedder: Embedder, section: EmbeddingSection) -> str:
    """Say what was chosen: model, device, type of the weights, what it reads."""
    return (
        f"embedding with {section.model} by {section.runtime} on {embedder.device} in "
        f"{embedder.dtype}, "
        f"{embedder.dimension} dimensions, {embedder.max_length} tokens"
    )


def _load_compiled(section: EmbeddingSection) -> Embedder:
    """Load the compiled model, and compile it first if that was not done yet."""
    from rag_app.embedding.compiled import ABOUT, CompiledEmbedder, compiled_folder
    from rag_app.embedding.runtimes import RUNTIMES

    runtime = RUNTIMES[section.runtime]
    runtime.require()
    if section.device not in {"auto", "cpu"}:
        raise ConfigError(
            f"embedding.device is {section.device!r}, and {section.runtime} runs on the processor",
            'set embedding.runtime = "torch", or leave embedding.device out',
        )
    folder = compiled_folder(section, runtime)
    if not (folder / ABOUT).is_file():
        from rag_app.embedding.compilation import compile_model  # torch, sentence-transformers: 6 s

        _LOG.warning("compiling %s for %s, once", section.model, section.runtime)
        compile_model(section, runtime, folder)
    return CompiledEmbedder(folder, section)
