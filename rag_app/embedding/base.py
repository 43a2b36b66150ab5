"""What the other packages need to know of an embedding model, whatever runs it."""

from abc import abstractmethod
from collections.abc import Sequence

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import Field

from rag_app.config.sections import SPECIAL_TOKENS

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
    def runtime(self) -> str:
        """What runs the model, e.g. "torch"."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Device that the model runs on, e.g. "cpu", or devices: "cuda:0, cuda:1"."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Type that the model computes in, e.g. "bfloat16"."""

    # Not abstract: LlamaIndex makes a span of each call of what implements an abstract method. That
    # took as long as the tokenizer, thousands of times a document.

    def tokenize(self, text: str) -> list[int]:
        """Return a text's token ids as the model sees them, uncut and without special tokens."""
        raise NotImplementedError

    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        """Return the vectors of many questions, embedded together."""
        raise NotImplementedError

    @property
    def content_tokens(self) -> int:
        """Tokens of a text that the model reads, special ones not counted."""
        return self.max_length - SPECIAL_TOKENS
