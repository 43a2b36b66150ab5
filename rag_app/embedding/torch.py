"""The embedding model run by torch: LlamaIndex's `HuggingFaceEmbedding`, sorted and counted."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.embeddings.huggingface.utils import (
    DEFAULT_QUERY_BGE_INSTRUCTION_EN,
    get_query_instruct_for_model_name,
)
from pydantic import PrivateAttr
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.base import TEXTS_PER_CALL, Embedder
from rag_app.embedding.devices import choose_device, choose_dtype
from rag_app.embedding.locate import locate_source
from rag_app.errors import ConfigError, ModelUnavailableError, first_line

BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "
"""What the English BGE models were trained to see before a question (their model cards)."""

ON_GPU, ELSEWHERE = 256, 32
"""Texts per forward pass where none are configured; a GPU is given work enough to be busy, and less
when it does not fit (`TorchEmbedder._embed`)."""

HUB_TIMEOUT = 10.0
"""Seconds to wait for the model hub to answer at all."""

_LOG = logging.getLogger("rag_app")


class TorchEmbedder(HuggingFaceEmbedding, Embedder):
    """`HuggingFaceEmbedding` that sorts thousands of texts by length and does not retry.

    LlamaIndex's own encodes `embed_batch_size` texts a call and uses the same number as the batch
    of a forward pass; here the call is large and the forward pass is `batch_size`. Further devices
    have a copy of the model each, and take their batches from the same pile.
    """

    _section: EmbeddingSection = PrivateAttr()
    _replicas: "list[_Replica]" = PrivateAttr()
    _counter: Tokenizer = PrivateAttr()

    def __init__(
        self, section: EmbeddingSection, more_devices: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(embed_batch_size=TEXTS_PER_CALL, **kwargs)
        self._section = section
        # A copy: the model's own is set to cut and pad while it encodes, perhaps in another thread.
        self._counter = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._counter.no_truncation()
        self._counter.no_padding()
        # LlamaIndex takes an empty instruction for none given, and looks one up.
        self._model.prompts["query"] = kwargs.get("query_instruction") or ""
        copies = [deepcopy(self._model).to(device) for device in more_devices]
        self._replicas = [_Replica(model, section.batch_size) for model in (self._model, *copies)]

    def __reduce__(self) -> Any:
        return load_with_torch, (self._section,)  # weights do not travel: they are loaded again

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "TorchEmbedder"

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        dimension = self._model.get_embedding_dimension()
        if dimension is None:
            raise ModelUnavailableError(f"{self.model_name} does not say its dimension")
        return int(dimension)

    @property
    def runtime(self) -> str:
        """Return "torch"."""
        return "torch"

    @property
    def device(self) -> str:
        """Device that the model runs on, e.g. "cpu" or "cuda:0"."""
        return ", ".join(str(replica.device) for replica in self._replicas)

    @property
    def dtype(self) -> str:
        """Type of the weights, e.g. "bfloat16"."""
        return str(next(self._model.parameters()).dtype).removeprefix("torch.")

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
        first, *others = self._replicas
        if not others or len(inputs) <= first.batch_size:
            return first.encode(inputs, prompt_name, normalize=self.normalize)
        # Longest first, so that no device is left with a long batch while the others are done.
        order = sorted(range(len(inputs)), key=lambda at: -len(str(inputs[at])))
        pile: SimpleQueue[list[int]] = SimpleQueue()
        for start in range(0, len(order), first.batch_size):
            pile.put(order[start : start + first.batch_size])
        rows: list[list[float]] = [[] for _ in inputs]

        def work(replica: _Replica) -> None:
            while True:
                try:
                    batch = pile.get_nowait()
                except Empty:
                    return
                texts = [inputs[at] for at in batch]
                encoded = replica.encode(texts, prompt_name, normalize=self.normalize)
                for at, row in zip(batch, encoded, strict=True):
                    rows[at] = row

        with ThreadPoolExecutor(len(self._replicas)) as threads:
            list(threads.map(work, self._replicas))  # asked for, or errors would be lost
        return rows


class _Replica:
    """The model on one device, with as many texts a forward pass as fit its memory."""

    def __init__(self, model: SentenceTransformer, batch_size: int | None) -> None:
        self._model = model
        self.device = torch.device(model.device)
        self.batch_size = batch_size or (ON_GPU if self.device.type == "cuda" else ELSEWHERE)

    def encode(
        self, texts: list[str | BytesIO], prompt_name: str | None, *, normalize: bool
    ) -> list[list[float]]:
        """Return the texts' vectors; halve the batch from then on if it does not fit the memory."""
        while True:
            try:
                vectors = self._model.encode(
                    texts,
                    batch_size=self.batch_size,
                    prompt_name=prompt_name,
                    normalize_embeddings=normalize,
                    show_progress_bar=False,
                )
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise
                self.batch_size //= 2
                torch.cuda.empty_cache()
                _LOG.info("%s has no more memory; %d texts at a time", self.device, self.batch_size)
            else:
                rows: list[list[float]] = vectors.tolist()
                return rows


def load_with_torch(section: EmbeddingSection) -> TorchEmbedder:
    """Load the model with sentence-transformers.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched.
    ConfigError
        If ``embedding.max_length`` is more than the model reads, or the device is not there.
    """
    source = locate_source(section.model)
    device, *more_devices = [choose_device(name) for name in section.devices]
    try:
        with no_loading_bar():
            embedder = TorchEmbedder(
                section,
                more_devices=more_devices,
                model_name=source,
                max_length=section.max_length,
                normalize=section.normalize,
                query_instruction=_query_instruction(section),
                trust_remote_code=section.trust_remote_code,
                device=device,
                model_kwargs={"dtype": choose_dtype(section.dtype, device)},
                local_files_only=is_out_of_reach(source),
            )
    except Exception as error:  # damaged files end in whatever the library that reads them raises
        raise ModelUnavailableError(
            f"the embedding model {section.model!r} cannot be loaded: {first_line(error)}",
            "check embedding.model and the network; a model that was copied here goes by its "
            'folder; "--profile offline" needs no download',
        ) from error
    _check_length(section, embedder)
    return embedder


def _query_instruction(section: EmbeddingSection) -> str:
    """Return what goes before a question: a BGE model in a folder is known by the folder's name."""
    if section.query_instruction is not None:
        return section.query_instruction
    name = section.model if section.folder is None else f"BAAI/{section.folder.name}"
    known = get_query_instruct_for_model_name(name)
    # LlamaIndex says "this question" where BGE's model card, and so its training, say "sentence".
    return BGE_INSTRUCTION if known == DEFAULT_QUERY_BGE_INSTRUCTION_EN else known


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Hide the bar over a model's tensors; the one over a download stays."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def is_out_of_reach(source: str) -> bool:
    """Ask once whether the hub answers: the loaders would try five times for each file, 70 s."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if Path(source).is_dir():  # nothing is to be fetched
        return True
    try:
        HfApi().model_info(source, timeout=HUB_TIMEOUT)
    except HfHubHTTPError:  # it answers; what it says of this model is the loader's to tell
        return False
    except Exception:  # no network, no name, no certificate, HF_HUB_OFFLINE: many libraries' errors
        return True
    return False


def _check_length(section: EmbeddingSection, embedder: TorchEmbedder) -> None:
    reads = getattr(embedder._model[0].config, "max_position_embeddings", None)
    if section.max_length and isinstance(reads, int) and section.max_length > reads:
        raise ConfigError(
            f"embedding.max_length is {section.max_length}, and {section.model} reads {reads}",
            f"set embedding.max_length to at most {reads}, or leave it out",
        )
