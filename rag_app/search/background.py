"""How near a question is to rows that have nothing to do with it, from a sample of the rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rag_app.search.fusion import Background

Vectors = npt.NDArray[np.float32]

_NO_SPREAD = 1e-6
"""Scores that differ by less, in units of the largest, differ by rounding."""


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


def _background(question: Vectors, rows: Vectors, metric: str) -> Background:
    if metric == "L2":
        scores = -np.square(rows - question).sum(axis=1)  # Milvus leaves out the root
    else:
        scores = rows @ question
        if metric == "COSINE":
            scores /= np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(question), 1e-12)
    deviation = float(scores.std())
    if deviation <= _NO_SPREAD * float(np.abs(scores).max()):
        deviation = 0.0
    return Background(float(scores.mean()), deviation)
