"""How near a question is to rows that have nothing to do with it, from a sample of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_app.search.fusion import Background

Vectors = npt.NDArray[np.float32]

_NO_SPREAD = 1e-6
"""Scores that differ by less, in units of the largest, differ by rounding."""


@dataclass(frozen=True)
class Sample:
    """Rows taken at random.

    Attributes
    ----------
    vectors
        Of shape (number, dimension).
    terms
        Of each row, by `TermAnalyzer`.
    pairs
        How near the rows are to each other.
    """

    vectors: Vectors
    terms: Sequence[frozenset[str]]
    pairs: Background


def backgrounds(
    questions: Sequence[Sequence[float]], rows: Vectors, metric: str
) -> list[Background]:
    """Return each question's background among rows taken at random.

    Parameters
    ----------
    rows
        Of shape (number, dimension); fewer than two tell nothing.
    metric
        Milvus's name of the collection's: "COSINE", "IP" or "L2".
    """
    if len(rows) < 2:
        return [Background(0.0, 0.0) for _ in questions]
    return [_background(np.asarray(each, dtype=np.float32), rows, metric) for each in questions]


def background_of_pairs(rows: Vectors, metric: str) -> Background:
    """Return how near rows taken at random are to each other."""
    if len(rows) < 2:
        return Background(0.0, 0.0)
    pairs = np.stack([_scores(row, rows, metric) for row in rows])
    return _of_scores(pairs[~np.eye(len(rows), dtype=bool)])


def _background(question: Vectors, rows: Vectors, metric: str) -> Background:
    return _of_scores(_scores(question, rows, metric))


def _scores(question: Vectors, rows: Vectors, metric: str) -> Vectors:
    if metric == "L2":
        scores = -np.square(rows - question).sum(axis=1)  # Milvus leaves out the root
    else:
        scores = rows @ question
        if metric == "COSINE":
            scores /= np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(question), 1e-12)
    return np.asarray(scores)


def _of_scores(scores: Vectors) -> Background:
    deviation = float(scores.std())
    if deviation <= _NO_SPREAD * float(np.abs(scores).max()):
        deviation = 0.0
    return Background(float(scores.mean()), deviation)
