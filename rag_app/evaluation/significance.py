"""Whether two variants differ by more than chance: exact paired tests that hold for few questions.

If two variants were equally good, each question's pair of figures might as well have come the other
way round. The test swaps pairs in all ways (or in many, drawn at random) and asks how often the
difference is at least as large as the one that was found (Fisher's permutation test; Good,
"Permutation, Parametric, and Bootstrap Tests of Hypotheses", 2005). Where every question differs by
the same amount or not at all, as with hits, that is McNemar's exact test.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt
from scipy import stats

from rag_app.evaluation.bootstrap import RESAMPLES, Values

ALPHA = 0.05
_ALL_WAYS = 13
"""Pairs up to which all ways to swap them are tried: 8,192."""
_AT_ONCE = 2_000_000
"""Pairs swapped at a time: 16 MB of each variant's figures."""


def p_of_mean(values: Values, baseline: Values, seed: int = 0) -> float:
    """Return how likely a difference of the means as large as this one is between equals."""
    differences = values - baseline
    # Equal pairs stay the same however they are swapped.
    differences = differences[~np.isnan(differences) & (differences != 0)]
    if not len(differences):
        return 1.0
    sizes = np.abs(differences)
    # All ways to swap them can be counted without trying any.
    if np.allclose(sizes, sizes[0]):
        ups = int((differences > 0).sum())
        return float(stats.binomtest(ups, len(differences), 0.5).pvalue)
    total = float(differences.sum())
    sums = [total - 2 * (swaps @ differences) for swaps in _swaps(len(differences), seed)]
    return _share(sums, total)


def p_of_quantile(values: Values, baseline: Values, share: float, seed: int = 0) -> float:
    """Return how likely a difference of the quantiles as large as this one is between equals."""
    both = ~(np.isnan(values) | np.isnan(baseline))
    values, baseline = values[both], baseline[both]
    if not len(values):
        return 1.0
    found = [
        np.quantile(np.where(swaps, baseline, values), share, axis=1)
        - np.quantile(np.where(swaps, values, baseline), share, axis=1)
        for swaps in _swaps(len(values), seed)
    ]
    return _share(found, float(found[0][0]))  # the first way swaps none


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust for several comparisons (Holm, "A Simple Sequentially Rejective Test", 1979)."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = highest
    return adjusted


def fewest(comparisons: int) -> int:
    """Return how many questions there must be for any of so many comparisons to be beyond noise.

    Where all pairs differ in one direction, 2 of the 2^n ways to swap n of them are as extreme:
    0.06 with five questions, 0.03 with six.
    """
    return next(n for n in count(1) if comparisons * 2.0 ** (1 - n) < ALPHA)


def _swaps(pairs: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which pairs are swapped, a row for each way; the first one swaps none."""
    if pairs <= _ALL_WAYS:
        yield (np.arange(2**pairs)[:, None] >> np.arange(pairs)) & 1 == 1
        return
    random = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // pairs)
    for start in range(0, RESAMPLES, rows):
        drawn = random.integers(0, 2, (min(rows, RESAMPLES - start), pairs), dtype=np.int8) == 1
        if not start:
            drawn[0] = False  # what was found is one of the ways, so that no p is 0
        yield drawn


def _share(differences: Sequence[Values], found: float) -> float:
    """Return the share of the differences that are as large as the one found, or as good as."""
    # Sums of the same numbers in another order may differ in their last digit.
    least = abs(found) - 1e-9 * max(abs(found), 1.0)
    return float((np.abs(np.concatenate(differences)) >= least).mean())
