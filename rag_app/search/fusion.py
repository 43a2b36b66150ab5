"""Join the hits of two searches into one order, so that neither ruins the other."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

RRF_K = 60
"""Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet" (2009)."""

Scores = Mapping[str, float]
"""Scores by row id, best first, higher for better ones."""


@dataclass(frozen=True)
class Background:
    """How near a question's vector is to rows that have nothing to do with it.

    Attributes
    ----------
    mean, deviation
        Of the scores of rows taken at random; with a deviation of 0 vectors tell nothing.
    """

    mean: float
    deviation: float

    def surprise(self, score: float) -> float:
        """Return -ln of the share of unrelated rows (taken as normally distributed) so near."""
        if self.deviation <= 0:
            return 0.0
        z = (score - self.mean) / self.deviation
        # Soon erfc is 0, which has no logarithm: the first term of its tail stands for it.
        if z > _ERFC_UNDERFLOWS:
            return z * z / 2 + math.log(z * math.sqrt(2 * math.pi))
        return -math.log(math.erfc(z / math.sqrt(2)) / 2)


_ERFC_UNDERFLOWS = 35


def weighted(
    dense: Scores, text: Scores, text_weight: float, background: Background
) -> dict[str, float]:
    """Join by scores, each taken for what it is: evidence on a logarithmic scale, which adds up.

    A BM25 score is a sum of log-odds, one for each word of the question that a row has (Robertson
    and Spärck Jones, "Relevance weighting of search terms", 1976). A cosine is none: how much it
    says depends on the model, and on how near the question is to anything at all; so it counts as
    the `Background.surprise` at it. What a search that does not understand the question puts on top
    (vectors of another language, words that are everywhere) is then worth little beside what the
    other one is sure of, and no search needs to be told from its scores to be the worse one. To
    stretch each search's scores to 0 … 1 makes as much of noise as of evidence, and to go by ranks
    does the same (docs/retrieval.md has the figures).

    A row that a search did not fetch has there at most the score of the last one that it did.

    Parameters
    ----------
    text_weight
        The share of `text`; the rest is that of `dense`.

    Returns
    -------
    dict
        Best first.
    """
    near = {id_: background.surprise(score) for id_, score in dense.items()}
    far = min(near.values(), default=0.0)
    # Fewer than the vectors' means that no other row has any of the words.
    last = min(text.values(), default=0.0) if len(text) >= len(dense) > 0 else 0.0
    return _best_first(
        {
            id_: (1 - text_weight) * near.get(id_, far) + text_weight * text.get(id_, last)
            for id_ in {**near, **text}
        }
    )


def reciprocal_rank_fusion(dense: Scores, text: Scores, text_weight: float) -> dict[str, float]:
    """Join by ranks alone; a score is the sum of each search's weight / (`RRF_K` + rank)."""
    fused: dict[str, float] = {}
    for hits, weight in ((dense, 1 - text_weight), (text, text_weight)):
        for rank, id_ in enumerate(hits, start=1):
            fused[id_] = fused.get(id_, 0.0) + weight / (RRF_K + rank)
    return _best_first(fused)


def _best_first(scores: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
