"""Vectors that are there already, for an ingest into another collection."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.schema import MetadataMode

from rag_app.embedding.base import Embedder
from rag_app.milvus.collection import CollectionStore


class KnownVectors:
    """An embedder that takes the vectors of texts that a collection has from there.

    Parameters
    ----------
    make_embedder
        Makes the one that embeds the others.
    store
        A collection that the same model made.
    """

    def __init__(self, make_embedder: Callable[[], Embedder], store: CollectionStore) -> None:
        self._make_embedder = make_embedder
        self._store = store
        self._known: dict[bytes, str] = {}
        self._embedder: Embedder | None = None
        self.lent = 0

    def opened(self) -> "KnownVectors":
        """Read which texts are there; what was ingested since the last time is among them."""
        self._embedder = self._make_embedder()
        # Digests and ids, and no vectors: those of a million rows would be gigabytes.
        self._known = {
            _digest(node.get_content(MetadataMode.EMBED)): node.node_id
            for page in self._store.pages_of_nodes()
            for node in page
        }
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def get_text_embedding_batch(self, texts: Sequence[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        ids = {text: id_ for text in texts if (id_ := self._known.get(_digest(text)))}
        found = {
            node.node_id: node.embedding
            for node in (self._store.get_nodes(node_ids=list(ids.values())) if ids else ())
        }
        vectors = {text: found[id_] for text, id_ in ids.items() if found.get(id_)}
        self.lent += sum(text in vectors for text in texts)
        new = [text for text in dict.fromkeys(texts) if text not in vectors]
        assert self._embedder is not None  # noqa: S101 - `opened` loads it
        made = self._embedder.get_text_embedding_batch(new) if new else []
        vectors.update(zip(new, made, strict=True))
        return [list(vectors[text] or ()) for text in texts]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
