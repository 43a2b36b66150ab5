"""Labelled questions → the regressions of `rag_app.answering.confidence`.

Few features and a ridge penalty, and no slope may go against what its feature says (more of the
question covered never makes an answer less likely): so that what is fitted on some documents holds
for others. Whether it does is asked of documents that were left out of the fit.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from rag_app.answering.confidence import Logistic

FITTED: Mapping[str, tuple[str, ...]] = {
    "both": ("above_usual", "shared", "worded_gap", "covered_sentence"),
    "vectors": ("above_usual", "near_gap", "covered", "covered_sentence"),
    "words": ("worded_gap", "covered", "covered_sentence"),
}
"""The features of each kind of search: four told as much as all ten, on documents left out."""

PENALTY = 3.0
"""Of the squared slopes per standard deviation, in questions."""

FOLDS = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """A question that was asked, and whether its contexts held the answer.

    Attributes
    ----------
    document
        What is left out together.
    kind
        One of `FITTED`.
    is_answerable
        Whether the document that answers it was in the collection.
    is_held
        Whether the contexts held the answer.
    weight
        How much it counts in the fit.
    """

    document: str
    kind: str
    features: Mapping[str, float]
    is_answerable: bool
    is_held: bool
    weight: float = 1.0


def fit(rows: Sequence[Labelled], names: Sequence[str]) -> Logistic:
    """Fit one regression, without thresholds."""
    values = _matrix(rows, names)
    held = np.array([row.is_held for row in rows])
    weights = np.array([row.weight for row in rows])
    centers = np.nan_to_num(np.nanmean(values, axis=0))
    values = np.where(np.isnan(values), centers, values)
    deviations = values.std(0)
    deviations[deviations < 1e-9] = 1.0
    scaled = (values - centers) / deviations
    signs = np.where(held, 1.0, -1.0)

    def loss(found: Floats) -> tuple[float, Floats]:
        log_odds = scaled @ found[1:] + found[0]
        slopes = -signs * weights / (1 + np.exp(np.clip(signs * log_odds, -50, 50)))
        penalty = PENALTY * float(found[1:] @ found[1:])
        total = float(weights @ np.logaddexp(0, -signs * log_odds)) + penalty
        return total, np.r_[slopes.sum(), scaled.T @ slopes + 2 * PENALTY * found[1:]]

    bounds = [(None, None), *[(0.0, None)] * len(names)]
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Logistic(
        float(found[0]),
        {name: float(slope) for name, slope in zip(names, found[1:] / deviations, strict=True)},
        {name: float(center) for name, center in zip(names, centers, strict=True)},
        kept=(),
        of=(0, 0),
    )


def predict(model: Logistic, rows: Sequence[Labelled]) -> Floats:
    """Return the confidence in each question's contexts."""
    return np.array([model.probability(model.reasons(row.features)) for row in rows])


def cross_fitted(
    rows: Sequence[Labelled], names: Sequence[str], groups: Sequence[str] = ()
) -> Floats:
    """Return the confidence in each question's contexts, by a fit without its group.

    Parameters
    ----------
    groups
        Of each question; none: `FOLDS` of documents, chosen by their names' checksums.
    """
    of = np.array(groups or [str(zlib.crc32(row.document.encode()) % FOLDS) for row in rows])
    found = np.zeros(len(rows))
    for group in dict.fromkeys(of):
        others = [row for row, is_in in zip(rows, of == group, strict=True) if not is_in]
        these = [row for row, is_in in zip(rows, of == group, strict=True) if is_in]
        # With one label alone there is nothing to tell apart.
        if len({row.is_held for row in others}) == 2:
            found[of == group] = predict(fit(others, names), these)
    return found


def fit_all(rows: Sequence[Labelled]) -> dict[str, Any]:
    """Fit a regression for each kind that there are questions of both labels of.

    Returns
    -------
    dict
        What `rag_app.answering.confidence.read_models` reads.
    """
    models = {}
    for kind, names in FITTED.items():
        some = [row for row in rows if row.kind == kind]
        if len({row.is_held for row in some}) < 2:
            continue
        model = fit(some, names)
        confidences = cross_fitted(some, names)
        answerable = np.array([row.is_answerable for row in some])
        kept = [
            [
                float(at),
                int((confidences[answerable] >= at).sum()),
                int((confidences[~answerable] >= at).sum()),
            ]
            for at in np.round(np.arange(0.01, 1.0, 0.01), 2)
        ]
        models[kind] = {
            "intercept": round(model.intercept, 4),
            "coefficients": _rounded(model.coefficients),
            "centers": _rounded(model.centers),
            "kept": kept,
            "of": [int(answerable.sum()), int((~answerable).sum())],
        }
    return {"models": models}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _matrix(rows: Sequence[Labelled], names: Sequence[str]) -> Floats:
    return np.array([[row.features.get(name, np.nan) for name in names] for row in rows])
