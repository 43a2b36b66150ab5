"""Config → the LlamaIndex embedding model, in the configured runtime. Knows all the runtimes.

Importing this module loads none of them, neither torch nor sentence-transformers (6 s): with a
compiled model a question is answered without them.
"""

import logging
from contextlib import suppress
from pathlib import Path

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.base import Embedder
from rag_app.embedding.devices import has_gpu
from rag_app.embedding.runtimes import RUNTIMES, CannotCompileError, NotCompiledError
from rag_app.errors import ConfigError
from rag_app.install import pip_install

REFUSED = ".refused"
"""Ends the name of the file that stands for a model that cannot be compiled, and says why."""

_LOG = logging.getLogger("rag_app")


def build_embedder(section: EmbeddingSection) -> Embedder:
    """Load the embedding model; a compiled runtime compiles it first, once.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched, the runtime that is asked for is not
        installed, or cannot compile the model.
    ConfigError
        If ``embedding.max_length`` is more than the model reads, or the device is not there.
    """
    chosen = section.model_copy(update={"runtime": choose_runtime(section)})
    if chosen.runtime == "torch":
        return _load_with_torch(chosen)
    try:
        return _load_compiled(chosen)
    except NotCompiledError as error:
        if section.runtime != "auto":
            raise
        _LOG.warning("%s; torch runs it instead", error.message)
        # What was for lack of room is tried again.
        if isinstance(error, CannotCompileError):
            _note_refusal(chosen, error)
        return _load_with_torch(chosen)


def choose_runtime(section: EmbeddingSection) -> str:
    """Resolve "auto": a GPU's torch, else the fastest that is installed and runs the model."""
    from rag_app.embedding.compiled import ABOUT

    if section.runtime != "auto":
        return section.runtime
    if section.device not in {"auto", "cpu"} or (section.device == "auto" and has_gpu()):
        return "torch"
    for name, runtime in RUNTIMES.items():
        if not runtime.is_installed or not runtime.computes_in(section.dtype):
            continue
        folder = _folder(section.model_copy(update={"runtime": name}))
        if (folder / ABOUT).is_file():  # compiled already, which asks for no compiler any more
            return name
        if runtime.can_compile and not folder.with_name(folder.name + REFUSED).exists():
            return name
    return "torch"


def describe(embedder: Embedder, section: EmbeddingSection) -> str:
    """Say what was chosen: model, runtime, device, type of the weights, what it reads."""
    said = (
        f"embedding with {section.model} by {embedder.runtime} on {embedder.device} in "
        f"{embedder.dtype}, "
        f"{embedder.dimension} dimensions, {embedder.max_length} tokens"
    )
    is_slow = section.runtime == "auto" and embedder.runtime == "torch" and embedder.device == "cpu"
    if is_slow and not any(runtime.can_compile for runtime in RUNTIMES.values()):
        fastest = next(iter(RUNTIMES))
        return f"{said}; faster, and as good: {pip_install(fastest)}"
    return said


def _folder(section: EmbeddingSection) -> Path:
    from rag_app.embedding.compiled import compiled_folder

    return compiled_folder(section, RUNTIMES[section.runtime])


def _note_refusal(section: EmbeddingSection, error: CannotCompileError) -> None:
    """Write down that a model cannot be compiled, so that it is not tried in every process."""
    folder = _folder(section)
    with suppress(OSError):
        folder.with_name(folder.name + REFUSED).write_text(f"{error}\n", encoding="utf-8")


def _load_with_torch(section: EmbeddingSection) -> Embedder:
    from rag_app.embedding.torch import load_with_torch  # 6 s

    return load_with_torch(section)


def _load_compiled(section: EmbeddingSection) -> Embedder:
    """Load the compiled model, and compile it first if that was not done yet."""
    from rag_app.embedding.compiled import ABOUT, CompiledEmbedder

    runtime = RUNTIMES[section.runtime]
    runtime.require()
    if section.device not in {"auto", "cpu"}:
        raise ConfigError(
            f"embedding.device is {section.device!r}, and {section.runtime} runs on the processor",
            'set embedding.runtime = "torch", or leave embedding.device out',
        )
    folder = _folder(section)
    if not (folder / ABOUT).is_file():
        from rag_app.embedding.compilation import compile_model  # torch, sentence-transformers: 6 s

        _LOG.warning(
            "compiling %s for %s, once; takes about half a minute", section.model, section.runtime
        )
        compile_model(section, runtime, folder)
    return CompiledEmbedder(folder, section)
