"""How far a figure can be trusted: intervals of figures, and of differences between variants.

Shares, which a handful of questions may all agree in, have Wilson's score interval ("Probable
Inference", 1927). All else has the percentile bootstrap's (Efron and Tibshirani, "An Introduction
to the Bootstrap", 1993): draw as many questions as there are, with replacement, and look at where
the middle 95% of the figures fall. Variants are compared question by question, so what makes a
question hard for all of them drops out; whether they differ by more than chance is for
`significance` to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from rag_app.schema import Record

RESAMPLES = 10_000
SLOW_RESAMPLES = 1_000
LEVEL = 0.95
_AT_ONCE = 2_000_000
"""Drawn questions held at a time: 16 MB."""

Values = npt.NDArray[np.float64]
"""A figure of each question, NaN where it has none."""


@dataclass(frozen=True)
class Interval(Record):
    """A figure and its 95% interval, from `n` questions."""

    value: float
    low: float
    high: float
    n: int


def means(columns: Mapping[str, Values], seed: int = 0) -> dict[str, Interval]:
    """Return mean and interval of each column; one without any value is left out.

    Parameters
    ----------
    columns
        All of the same length: the same questions are drawn for all of them.
    """
    figures = _bootstrapped(columns, seed)
    return {
        name: _wilson(columns[name]) if _is_share(columns[name]) else figure
        for name, figure in figures.items()
    }


def _is_share(values: Values) -> bool:
    """Whether each question was right or wrong."""
    return bool(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all())


def _wilson(values: Values) -> Interval:
    right, n = int(np.nansum(values)), int((~np.isnan(values)).sum())
    found = stats.binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return Interval(right / n, float(found.low), float(found.high), n)


def _bootstrapped(columns: Mapping[str, Values], seed: int) -> dict[str, Interval]:
    columns = {name: values for name, values in columns.items() if not np.isnan(values).all()}
    if not columns:
        return {}
    values = np.column_stack(list(columns.values()))
    there = ~np.isnan(values)
    # NaN would spread over all sums; so sums are divided by how many values are in them.
    filled = np.where(there, values, 0.0)
    drawn = []
    for counts in _draw_counts(len(values), seed):
        with np.errstate(invalid="ignore"):  # no question that has the figure was drawn
            drawn.append((counts @ filled) / (counts @ there))
    low, high = np.nanpercentile(np.concatenate(drawn), _tails(), axis=0)
    return {
        name: Interval(
            float(filled[:, at].sum() / there[:, at].sum()),
            float(low[at]),
            float(high[at]),
            int(there[:, at].sum()),
        )
        for at, name in enumerate(columns)
    }


def differences(
    columns: Mapping[str, Values], baseline: Mapping[str, Values], seed: int = 0
) -> dict[str, Interval]:
    """Return how much higher each column is than the baseline's, over the questions of both."""
    return _bootstrapped(
        {name: values - baseline[name] for name, values in columns.items() if name in baseline},
        seed,
    )


def quantile(values: Values, share: float, seed: int = 0) -> Interval | None:
    """Return a quantile (0.5: the median) and its interval; None without any value."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    drawn = np.concatenate(
        [np.quantile(values[picks], share, axis=1) for picks in _draw(len(values), seed)]
    )
    low, high = np.percentile(drawn, _tails())
    return Interval(float(np.quantile(values, share)), float(low), float(high), len(values))


def quantile_difference(
    values: Values, baseline: Values, share: float, seed: int = 0
) -> Interval | None:
    """Return how much higher a quantile is than the baseline's, over the questions of both."""
    both = ~(np.isnan(values) | np.isnan(baseline))
    values, baseline = values[both], baseline[both]
    if not len(values):
        return None
    drawn = np.concatenate(
        [
            np.quantile(values[picks], share, axis=1) - np.quantile(baseline[picks], share, axis=1)
            for picks in _draw(len(values), seed)
        ]
    )
    low, high = np.percentile(drawn, _tails())
    difference = np.quantile(values, share) - np.quantile(baseline, share)
    return Interval(float(difference), float(low), float(high), len(values))


def interval_of(
    figure: Callable[..., float], columns: Sequence[Values], seed: int = 0
) -> Interval | None:
    """Return a figure of whole columns and its interval; None where it cannot be told.

    Parameters
    ----------
    figure
        Of columns of the same questions; NaN where these do not tell.
    """
    value = figure(*columns)
    if np.isnan(value):
        return None
    random = np.random.default_rng(seed)
    size = len(columns[0])
    # Fewer than of a mean: such a figure takes a thousand times as long.
    picks = random.integers(0, size, (SLOW_RESAMPLES, size))
    drawn = [figure(*(column[pick] for column in columns)) for pick in picks]
    low, high = np.nanpercentile(drawn, _tails())
    return Interval(value, float(low), float(high), size)


def _tails() -> list[float]:
    outside = 100 * (1 - LEVEL) / 2
    return [outside, 100 - outside]


def _draw(size: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield drawn indices, `RESAMPLES` rows of `size` in all."""
    random = np.random.default_rng(seed)
    rows = max(1, min(RESAMPLES, _AT_ONCE // size))
    for start in range(0, RESAMPLES, rows):
        yield random.integers(0, size, (min(rows, RESAMPLES - start), size))


def _draw_counts(size: int, seed: int) -> Iterator[Values]:
    """Yield how often each question was drawn: a matrix product then gives all the sums."""
    for picks in _draw(size, seed):
        rows = len(picks)
        flat = (picks + np.arange(rows)[:, None] * size).ravel()
        # As floats: NumPy multiplies matrices of integers slowly.
        yield np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(float)
