"""The embedding model run by OpenVINO or onnxruntime, from a copy that was compiled once.

Imports neither torch nor sentence-transformers nor transformers.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr
from tokenizers import Tokenizer

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.base import TEXTS_PER_CALL, Embedder
from rag_app.embedding.runtimes import RUNTIMES, Infer, Runtime
from rag_app.errors import ModelUnavailableError, first_line

COMPILED_VERSION = 1
"""Raise it when what is in the folder changes, so that models compiled before are not used."""

TOKENS_PER_PASS = 2048
"""Tokens in one forward pass, padding included: what stays in the processor's caches. Passes of
1,024 to 4,096 took the same time, of 16,384 half as much again, and memory grows with them."""

MOST_PADDING = 32
"""Tokens of padding in one forward pass: a pass of its own costs as much as a dozen tokens, and the
eight sentences that an answer compares differ much in length."""

LENGTH_STEP = 8
"""Passes are padded to a multiple of this many tokens: a runtime prepares for each new shape."""

TEXTS_TO_TOKENIZE = 256
"""Texts tokenized at a time: a tokenizer says much of each, and only the ids are kept."""

ABOUT = "compiled.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class AboutCompiled:
    """What is written beside a compiled model.

    Attributes
    ----------
    dtype
        That the model computes in.
    max_length
        Tokens read of each text, special ones included.
    pooling
        "mean" or "cls", inside the model.
    query_instruction
        Of the model, where the configuration gives none.
    lowest_cosine
        Of the vectors of `checked_texts` texts with the original's.
    processor_seconds
        For the same texts, by runtime, measured when it was compiled.
    made_with
        Versions by package.
    """

    version: int
    model: str
    runtime: str
    dtype: str
    dimension: int
    max_length: int
    pad_id: int
    pooling: str
    query_instruction: str
    lowest_cosine: float = 0.0
    checked_texts: int = 0
    processor_seconds: dict[str, float] | None = None
    made_with: dict[str, str] | None = None

    @classmethod
    def read(cls, folder: Path) -> "AboutCompiled":
        """Read what is beside a compiled model."""
        return cls(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))

    @property
    def share_of_torch(self) -> float | None:
        """Processor time as a share of torch's, or None if it was not measured."""
        seconds = self.processor_seconds or {}
        return seconds[self.runtime] / seconds["torch"] if seconds.get("torch") else None

    def write(self, folder: Path) -> None:
        """Write it into the compiled model's folder."""
        text = json.dumps(asdict(self), indent=2)
        (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


class CompiledEmbedder(Embedder):
    """A LlamaIndex embedding model over a compiled one: sorts thousands of texts by length.

    Parameters
    ----------
    folder
        Of the compiled model.
    section
        The configuration's ``[embedding]``.

    Raises
    ------
    ModelUnavailableError
        If the files cannot be read.
    """

    _made_of: tuple[Path, EmbeddingSection] = PrivateAttr()
    _about: AboutCompiled = PrivateAttr()
    _infer: Infer = PrivateAttr()
    _tokenizer: Tokenizer = PrivateAttr()
    _counter: Tokenizer | None = PrivateAttr(default=None)
    _tokenizer_file: Path = PrivateAttr()
    _instruction: str = PrivateAttr()
    _normalize: bool = PrivateAttr()

    def __init__(self, folder: Path, section: EmbeddingSection) -> None:
        try:
            about = AboutCompiled.read(folder)
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            infer = RUNTIMES[about.runtime].open(folder, about.dtype)
        except Exception as error:  # damaged files: many libraries' errors
            raise ModelUnavailableError(
                f"the compiled model in {folder} cannot be used: {first_line(error)}",
                f"rm -r '{folder}', and it is compiled again",
            ) from error
        super().__init__(
            model_name=section.model,
            embed_batch_size=TEXTS_PER_CALL,
            max_length=about.max_length,
        )
        self._made_of = folder, section
        self._about = about
        self._infer = infer
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(about.max_length)
        self._tokenizer_file = folder / TOKENIZER
        asked = section.query_instruction
        self._instruction = about.query_instruction if asked is None else asked
        self._normalize = section.normalize

    def __reduce__(self) -> Any:
        return CompiledEmbedder, self._made_of  # what a runtime has open does not travel

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "CompiledEmbedder"

    @property
    def about(self) -> AboutCompiled:
        """What is written beside the compiled model."""
        return self._about

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._about.dimension

    @property
    def runtime(self) -> str:
        """What runs the model, e.g. "openvino"."""
        return self._about.runtime

    @property
    def device(self) -> str:
        """Return "cpu": compiled models run on the processor."""
        return "cpu"

    @property
    def dtype(self) -> str:
        """Type that the model computes in, e.g. "bfloat16"."""
        return self._about.dtype

    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids as the model sees them, uncut and without special tokens."""
        if self._counter is None:  # one that does not cut; a question needs none
            self._counter = Tokenizer.from_file(str(self._tokenizer_file))
        tokens: list[int] = self._counter.encode(text, add_special_tokens=False).ids
        return tokens

    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        """Return the vectors of many questions, embedded together."""
        return self._embed([self._instruction + question for question in questions])

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        ids = self._token_ids(texts)
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        for of_pass in _passes([len(of_text) for of_text in ids]):
            padded, mask = self._pad([ids[at] for at in of_pass])
            vectors[of_pass] = self._infer(padded, mask)
        if self._normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        rows: list[list[float]] = vectors.tolist()
        return rows

    def _token_ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [
            np.asarray(encoding.ids, dtype=np.int32)
            for start in range(0, len(texts), TEXTS_TO_TOKENIZE)
            # Fast: where in the text each token stands is left out.
            for encoding in self._tokenizer.encode_batch_fast(
                list(texts[start : start + TEXTS_TO_TOKENIZE])
            )
        ]

    def _pad(self, ids: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        longest = max(len(of_text) for of_text in ids)
        # Rounded up, but not to positions that the model does not have.
        width = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, max(longest, self.max_length))
        padded = np.full((len(ids), width), self._about.pad_id, dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, of_text in enumerate(ids):
            padded[row, : len(of_text)] = of_text
            mask[row, : len(of_text)] = 1
        return padded, mask

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.embed_queries([query])[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def read_about(section: EmbeddingSection) -> AboutCompiled | None:
    """Read what is known of the configured model's compiled copy; None if there is none."""
    try:
        return AboutCompiled.read(compiled_folder(section, RUNTIMES[section.runtime]))
    except (OSError, ValueError, TypeError):  # a file of another version has other keys
        return None


def compiled_folder(section: EmbeddingSection, runtime: Runtime) -> Path:
    """Return where the compiled model belongs: its name says model, runtime and type.

    The digest is of all that the files depend on, so that another model, length or version of
    rag_app never meets them.
    """
    dtype = runtime.choose_dtype(section.dtype)
    decides = [COMPILED_VERSION, section.identity, section.max_length, runtime.name, dtype]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.]+", "-", section.model.rstrip("/").split("/")[-1]).strip("-")
    return Path(section.compiled_folder) / f"{name}-{runtime.name}-{dtype}-{digest}"


def _passes(lengths: Sequence[int]) -> Iterator[NDArray[np.intp]]:
    """Group texts into forward passes, the longest first, so that the peak comes at the start."""
    order = np.argsort([-length for length in lengths], kind="stable")
    start = padding = 0
    for end, at in enumerate(order):
        longest = -(-lengths[order[start]] // LENGTH_STEP) * LENGTH_STEP
        padding += longest - lengths[at]
        is_full = (end - start + 1) * longest > TOKENS_PER_PASS
        # The first text of a pass is taken whatever its length.
        if end > start and (is_full or padding > MOST_PADDING):
            yield order[start:end]
            start, padding = end, 0
    if start < len(order):
        yield order[start:]
