"""Embedders of collections that another model made than the configured one."""

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.base import Embedder
from rag_app.embedding.batching import BatchingEmbedder
from rag_app.embedding.factory import build_embedder


class Embedded(Protocol):
    """What questions are embedded for."""

    @property
    def embedding(self) -> EmbeddingSection:
        """What made its vectors."""


class Others:
    """Loads them when they are needed, which is while collections are migrated; each once.

    Parameters
    ----------
    own
        Returns the configured model's.
    section
        The configuration's ``[embedding]``.
    """

    def __init__(self, own: Callable[[], Embedder], section: EmbeddingSection) -> None:
        self._own = own
        self._section = section
        self._lock = Lock()
        self._loaded: dict[str, BatchingEmbedder] = {}

    def of(self, collection: Embedded) -> Embedder:
        """Return what embeds a collection's questions.

        Raises
        ------
        ModelUnavailableError
            If it cannot be loaded.
        """
        section = collection.embedding
        if section == self._section:
            return self._own()
        key = section.model_dump_json()
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = BatchingEmbedder(build_embedder(section))
            return self._loaded[key]

    def close(self) -> None:
        """Close those that were loaded."""
        with self._lock:
            while self._loaded:
                self._loaded.popitem()[1].close()
