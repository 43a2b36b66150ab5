"""How well the confidence tells what the documents answer from what they do not.

AUROC: how often a question whose contexts hold the answer is more confident than one whose do not.
AURC: the share of wrong ones among those that are answered, averaged over how many are answered,
the surest first (Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", 2017).
ECE: how far confidences are from the shares that come true, in ten bins (Guo et al., "On
Calibration of Modern Neural Networks", 2017).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from rag_app.evaluation.bootstrap import Interval, Values, interval_of

BINS = 10
POINTS = 50
"""Of a curve that is drawn."""


def auroc(confidences: Values, held: Values) -> float:
    """Return the area under the ROC curve; NaN where all are of one kind."""
    right = held > 0.5
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(confidences)
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def ece(confidences: Values, held: Values) -> float:
    """Return the expected calibration error."""
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidences - held, minlength=BINS)
    return float(np.abs(gaps).sum() / len(held))


def aurc(confidences: Values, held: Values) -> float:
    """Return the area under the risk-coverage curve."""
    return float(_risks(confidences, held).mean())


def risk_curve(confidences: Values, held: Values) -> list[tuple[float, float]]:
    """Return shares that are answered, the surest first, and of each the share of wrong ones."""
    risks = _risks(confidences, held)
    n = len(risks)
    places = sorted({max(0, round(n * at / POINTS) - 1) for at in range(1, POINTS + 1)})
    return [((place + 1) / n, float(risks[place])) for place in places]


def _risks(confidences: Values, held: Values) -> Values:
    order = np.argsort(-confidences, kind="stable")
    return np.asarray(np.cumsum(1 - held[order]) / np.arange(1, len(held) + 1))


FIGURES: Mapping[str, Callable[[Values, Values], float]] = {
    "confidence_auroc": auroc,
    "confidence_ece": ece,
    "confidence_aurc": aurc,
}


def summarize_confidence(confidences: Values, held: Values, seed: int = 0) -> dict[str, Any]:
    """Return the figures of `FIGURES` with intervals, and the curve; empty without any question.

    Parameters
    ----------
    confidences, held
        Of each question, NaN where it is not known.
    """
    known = ~(np.isnan(confidences) | np.isnan(held))
    confidences, held = confidences[known], held[known]
    if not len(held):
        return {}
    figures: dict[str, Interval | None] = {
        name: interval_of(figure, (confidences, held), seed) for name, figure in FIGURES.items()
    }
    return {
        "figures": {name: each.to_dict() for name, each in figures.items() if each},
        "curve": risk_curve(confidences, held),
    }
