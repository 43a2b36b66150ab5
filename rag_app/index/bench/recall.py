"""What an index finds of what an exact search finds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rag_app.config.index_types import Index, search_params
from rag_app.index.bench.vectors import Vectors, unit
from rag_app.milvus.dense_index import DenseIndex

QUESTIONS = 100
"""Rows of a collection that are searched for."""

NEIGHBOURS = 10
"""Nearest rows that each of them should find."""


class Exact:
    """The truly nearest vectors, by numpy, block by block.

    Parameters
    ----------
    metric
        "COSINE", "IP" or "L2".
    """

    def __init__(self, questions: Vectors, metric: str, top_k: int) -> None:
        self.top_k = top_k
        self._metric = metric
        self._questions = self._scaled(questions)
        self._best = np.empty((len(questions), 0), dtype=np.float32)

    def add(self, vectors: Vectors) -> None:
        """Take more vectors into account."""
        scored = np.hstack([self._best, self._scores(self._questions, vectors)])
        most = min(self.top_k, scored.shape[1])
        self._best = np.partition(scored, -most, axis=1)[:, -most:]

    def recall(self, found: Sequence[Vectors]) -> float:
        """Return the share of the nearest ``top_k`` among the vectors found by question.

        Another vector that scores as well as the last one that counts, counts too: equal texts have
        equal vectors.
        """
        hits = 0
        most = self._best.shape[1]
        for question, least, near in zip(
            self._questions, self._best.min(axis=1), found, strict=True
        ):
            if len(near):
                scores = self._scores(question[np.newaxis], near)
                hits += min(most, int((scores >= least - 1e-5).sum()))  # float32 rounds
        return hits / (most * len(found))

    def _scaled(self, vectors: Vectors) -> Vectors:
        return unit(vectors) if self._metric == "COSINE" else vectors

    def _scores(self, questions: Vectors, vectors: Vectors) -> Vectors:
        """Score vectors by questions, higher for nearer ones; shape (questions, vectors)."""
        vectors = self._scaled(vectors)
        scores = questions @ vectors.T
        if self._metric == "L2":
            # Without the question's own square, which is the same for all vectors.
            scores = 2 * scores - (vectors**2).sum(axis=1)
        return np.asarray(scores, dtype=np.float32)


def measure_recall(
    index: DenseIndex, built: Index, asked: Iterable[Mapping[str, Any]]
) -> Iterator[float]:
    """Measure an index on rows of its own collection, for each set of search parameters.

    Yields
    ------
    float
        One for each, as it is asked for; none if there are too few rows to tell.
    """
    questions: Vectors | None = None
    exact: Exact | None = None
    for block in index.vectors():
        if questions is None or exact is None:
            questions = block[:QUESTIONS]  # in the order of ids, which are digests: a fair sample
            exact = Exact(questions, built.metric, NEIGHBOURS + 1)
        exact.add(block)
    if questions is None or exact is None or len(questions) <= NEIGHBOURS:
        return
    for given in asked:
        searched = search_params(built, given, NEIGHBOURS + 1)
        recall = exact.recall(index.nearest(questions, NEIGHBOURS + 1, searched))
        # Each question is a row, and the first that it finds.
        yield ((NEIGHBOURS + 1) * recall - 1) / NEIGHBOURS
