"""The retrieval modes: rows by vector, by words, by both, or with variety.

Another mode is another record in `MODES`, or in another package's entry point, and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rag_app.config.sections import RetrievalSection
from rag_app.errors import ConfigError
from rag_app.registry import Registry
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
        Of the questions; empty for a mode that needs none.
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


@dataclass(frozen=True)
class Mode:
    """A way to find rows.

    Attributes
    ----------
    find
        Finds ``similarity_top_k`` rows for each question: one list of hits each, best first.
        Raises ConfigError if it needs words and the collection has none, VectorStoreError if Milvus
        fails.
    needs_vectors
        Whether questions have to be embedded for it.
    needs_words
        Whether the collection has to count words for it.
    takes_candidates
        Whether it fetches ``candidates`` rows to choose from.
    is_comparable
        Whether its scores mean the same from question to question, so that there can be a least.
    seeks_variety
        Whether it passes over near-copies itself.
    query_modes
        LlamaIndex's names of it (`VectorStoreQueryMode`).
    """

    find: Callable[[Searchable, Asked, RetrievalSection], list[list[Hit]]]
    needs_vectors: bool = True
    needs_words: bool = False
    takes_candidates: bool = False
    is_comparable: bool = False
    seeks_variety: bool = False
    query_modes: tuple[str, ...] = ()


def find_mode(name: str) -> Mode:
    """Return the mode of this name.

    Raises
    ------
    ConfigError
        If there is none.
    ExtensionError
        If it is another package's, and cannot be used.
    """
    if name not in MODES:
        raise ConfigError(
            f"there is no retrieval mode {name!r}", f"use one of {', '.join(sorted(MODES))}"
        )
    return MODES[name]


def named_by_llama_index(name: str) -> str | None:
    """Return the mode that LlamaIndex calls so; None if there is none."""
    return next((own for own, mode in MODES.items() if name in mode.query_modes), None)


def _dense(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    return rows.search_vectors(asked, section.similarity_top_k)


def _text(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    return rows.search_words(asked, section.similarity_top_k)


def _hybrid(rows: Searchable, asked: Asked, section: RetrievalSection) -> list[list[Hit]]:
    # More than are wanted: what is low in one list may come first when both are joined.
    limit = max(section.candidates, section.similarity_top_k)
    # Not Milvus's own hybrid search, which knows no backgrounds (`weighted`).
    dense = [_scores(hits) for hits in rows.search_vectors(asked, limit)]
    text = [_scores(hits) for hits in rows.search_words(asked, limit)]
    weight = section.text_weight
    # Only the other one reads a sample of the rows, for the backgrounds.
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
    found = rows.search_vectors(asked, limit, with_vectors=True)
    return [
        _with_variety(hits, question, section.similarity_top_k, section.mmr_threshold)
        for question, hits in zip(asked.vectors, found, strict=True)
    ]


def _with_variety(
    hits: list[Hit], question: Sequence[float], number: int, threshold: float
) -> list[Hit]:
    """Choose by nearness to the question, less the nearness to what was chosen.

    Carbonell and Goldstein, "The use of MMR" (1998). LlamaIndex's own looks at the last chosen one
    only, and takes 12 ms for 50 rows.
    """
    if not hits:
        return []
    import numpy as np  # 0.1 s, which a look at the configuration need not wait for

    vectors = np.array([hit.vector for hit in hits], dtype=np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    # Cosines both: the score may be a distance, or grow with the vectors' lengths.
    asked = np.array(question, dtype=np.float32)
    relevance = vectors @ (asked / max(float(np.linalg.norm(asked)), 1e-12))
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


MODES: Registry[Mode] = Registry(
    "rag_app.retrieval_modes",
    "retrieval mode",
    {
        "dense": Mode(_dense, is_comparable=True, query_modes=("default",)),
        "text": Mode(
            _text, needs_vectors=False, needs_words=True, query_modes=("text_search", "sparse")
        ),
        "hybrid": Mode(
            _hybrid,
            needs_words=True,
            takes_candidates=True,
            query_modes=("hybrid", "semantic_hybrid"),
        ),
        "mmr": Mode(
            _mmr,
            takes_candidates=True,
            is_comparable=True,
            seeks_variety=True,
            query_modes=("mmr",),
        ),
    },
    takes="rag_app.search.modes.Mode",
    fits=lambda found: isinstance(found, Mode),
)
