"""Find rows by vector, by words, by both, or with variety: many questions in one call to Milvus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from rag_app.config.sections import RetrievalSection
from rag_app.search.fusion import Background, reciprocal_rank_fusion, weighted


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes
    ----------
    score
        Higher for better ones.
    vector
        Of the row, where it was asked for.
    """

    id: str
    score: float
    vector: Sequence[float] = ()


@dataclass(frozen=True)
class Asked:
    """Questions that are asked together.

    Attributes
    ----------
    vectors
        Of the questions; empty for the mode "text".
    expression
        Milvus's, which rows have to fulfil; empty: none.
    """

    questions: Sequence[str]
    vectors: Sequence[Sequence[float]] = ()
    expression: str = ""


class Searchable(Protocol):
    """What a collection offers: a list of hits for each question, best first."""

    def search_vectors(
        self, asked: Asked, limit: int, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        """Search by nearness."""

    def search_words(self, asked: Asked, limit: int) -> list[list[Hit]]:
        """Search by words."""

    def backgrounds(self, asked: Asked) -> list[Background]:
        """Tell for each question how near its vector is to rows taken at random."""


def needs_vectors(mode: str) -> bool:
    """Whether a mode searches by nearness."""
    return mode != "text"


def find(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    """Find ``section.similarity_top_k`` rows for each question in ``section.mode``.

    Returns
    -------
    list of list of Hit
        One list for each question, best first.

    Raises
    ------
    ConfigError
        If the mode needs words, and the collection has none.
    VectorStoreError
        If Milvus fails.
    """
    return _MODES[section.mode](rows, asked, section)


def _dense(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    return rows.search_vectors(asked, section.similarity_top_k)


def _text(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    return rows.search_words(asked, section.similarity_top_k)


def _hybrid(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    limit = max(section.candidates, section.similarity_top_k)
    dense = [_scores(hits) for hits in rows.search_vectors(asked, limit)]
    text = [_scores(hits) for hits in rows.search_words(asked, limit)]
    weight = section.text_weight
    if section.fusion == "rrf":
        fused = [
            reciprocal_rank_fusion(near, worded, weight)
            for near, worded in zip(dense, text, strict=True)
        ]
    else:
        fused = [
            weighted(near, worded, weight, background)
            for near, worded, background in zip(dense, text, rows.backgrounds(asked), strict=True)
        ]
    return [
        [Hit(id_, score) for id_, score in islice(scores.items(), section.similarity_top_k)]
        for scores in fused
    ]


def _mmr(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    limit = max(section.candidates, section.similarity_top_k)
    return [
        _with_variety(hits, section.similarity_top_k, section.mmr_threshold)
        for hits in rows.search_vectors(asked, limit, with_vectors=True)
    ]


def _with_variety(hits: list[Hit], number: int, threshold: float) -> list[Hit]:
    """Choose by nearness to the question, less the nearness to what was chosen.

    Carbonell and Goldstein, "The use of MMR" (1998). LlamaIndex's own looks at the last chosen one
    only, and takes 12 ms for 50 rows.
    """
    if not hits:
        return []
    vectors = np.array([hit.vector for hit in hits], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = np.array([hit.score for hit in hits])
    likeness = np.full(len(hits), -np.inf)  # to the most similar one that was chosen
    chosen = [0]
    while len(chosen) < min(number, len(hits)):
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
        gain = threshold * relevance - (1 - threshold) * likeness
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return [hits[at] for at in chosen]


def _scores(hits: Sequence[Hit]) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


_MODES: dict[str, Callable[[Searchable, Asked, RetrievalSection], list[list[Hit]]]] = {
    "dense": _dense,
    "text": _text,
    "hybrid": _hybrid,
    "mmr": _mmr,
}
