"""Join the hits of two searches into one order, so that neither ruins the other."""

from collections.abc import Mapping
from itertools import islice

RRF_K = 60
"""Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet" (2009)."""

RUNNERS_UP = 5
"""The scores that a search's best is compared with."""

Scores = Mapping[str, float]
"""Scores by row id, best first, higher for better ones."""


def weighted(dense: Scores, text: Scores, text_weight: float) -> dict[str, float]:
    """Join by scores, and trust each search for this question as far as its best one stands out.

    Each search's scores are brought to 0 … 1: a cosine says little by itself, so vectors are taken
    between the worst and the best that was fetched; BM25 has a zero of its own, no word in common.
    Its weight is its share of `text_weight` times its `prominence`. A search that does not
    understand the question (vectors of another language, words that no document uses) scores many
    rows about alike; one that does puts one above all others. A fixed weight lets the one ruin the
    other, and so do ranks alone (docs/retrieval.md has the figures).

    Parameters
    ----------
    text_weight
        The share of `text`; the rest is that of `dense`.

    Returns
    -------
    dict
        Best first, from 1 (best in both) to 0.
    """
    near = _between(dense, min(dense.values(), default=0.0))
    worded = _between(text, 0.0)
    trust = text_weight * prominence(worded)
    mistrust = (1 - text_weight) * prominence(near)
    share = trust / (trust + mistrust) if trust + mistrust > 0 else text_weight
    return _best_first(
        {
            id_: (1 - share) * near.get(id_, 0.0) + share * worded.get(id_, 0.0)
            for id_ in {**near, **worded}
        }
    )


def prominence(scores: Scores) -> float:
    """Tell how far the best of scores from 0 to 1 stands above the next `RUNNERS_UP`: 0 … 1.

    Those that are not there count as 0: a word that only one row has makes it stand out.
    """
    best = next(iter(scores.values()), 0.0)
    return best - sum(islice(scores.values(), 1, 1 + RUNNERS_UP)) / RUNNERS_UP


def reciprocal_rank_fusion(dense: Scores, text: Scores, text_weight: float) -> dict[str, float]:
    """Join by ranks alone; a score is the sum of each search's weight / (`RRF_K` + rank)."""
    fused: dict[str, float] = {}
    for hits, weight in ((dense, 1 - text_weight), (text, text_weight)):
        for rank, id_ in enumerate(hits, start=1):
            fused[id_] = fused.get(id_, 0.0) + weight / (RRF_K + rank)
    return _best_first(fused)


def _between(scores: Scores, lowest: float) -> dict[str, float]:
    """Bring scores to 0 (the lowest) … 1 (the best)."""
    span = max(scores.values(), default=0.0) - lowest
    return {
        id_: (score - lowest) / span if span > 0 else 1.0 if score > 0 else 0.0
        for id_, score in scores.items()
    }


def _best_first(scores: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
