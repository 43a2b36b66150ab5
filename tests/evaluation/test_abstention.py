"""How well confidences tell what is answered from what is not, counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from rag_app.answering.confidence import read_models
from rag_app.evaluation.abstention import aurc, auroc, ece, risk_curve, summarize_confidence
from rag_app.evaluation.regression import FITTED, Labelled, cross_fitted, fit, fit_all, predict

RANDOM = np.random.default_rng(1)
HELD = (RANDOM.random(400) < 0.6).astype(float)
CONFIDENCES = np.clip(0.35 * HELD + 0.6 * RANDOM.random(400), 0, 1).round(2)


def test_auroc_is_how_often_the_right_one_is_surer_ties_included() -> None:
    right, wrong = CONFIDENCES[HELD == 1][:, None], CONFIDENCES[HELD == 0][None, :]
    counted = (right > wrong).mean() + 0.5 * (right == wrong).mean()
    assert auroc(CONFIDENCES, HELD) == pytest.approx(counted)
    assert np.isnan(auroc(CONFIDENCES, np.ones(400)))


def test_risk_falls_with_coverage_where_confidence_tells() -> None:
    held = np.array([1.0, 0.0, 1.0, 1.0])
    sure = np.array([0.9, 0.1, 0.8, 0.7])
    assert aurc(sure, held) == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    assert aurc(1 - sure, held) > aurc(sure, held)
    assert risk_curve(sure, held)[-1] == (1.0, 0.25)


def test_ece_is_how_far_shares_are_from_confidences() -> None:
    held = np.array([1.0, 0.0] * 50)
    assert ece(np.full(100, 0.5), held) == pytest.approx(0.0)
    assert ece(np.full(100, 0.9), held) == pytest.approx(0.4)


def test_figures_come_with_intervals_and_without_what_is_not_known() -> None:
    unknown = np.r_[HELD[:-1], np.nan]
    found = summarize_confidence(CONFIDENCES, unknown)
    figure = found["figures"]["confidence_auroc"]
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["n"] == 399
    assert summarize_confidence(np.full(3, np.nan), np.ones(3)) == {}


def labelled(kind: str, number: int, seed: int = 0, slope: float = 3.0) -> list[Labelled]:
    """Questions of ten documents, whose first feature tells, and no other."""
    random = np.random.default_rng(seed)
    rows = []
    for at in range(number):
        features = {name: float(random.normal()) for name in FITTED[kind]}
        told = slope * features[FITTED[kind][0]]
        held = bool(random.random() < 1 / (1 + np.exp(-told)))
        rows.append(Labelled(f"{at % 10}.md", kind, features, held, held))
    return rows


def test_a_fit_finds_what_tells_and_nothing_else() -> None:
    rows = labelled("both", 600)
    model = fit(rows, FITTED["both"])
    first, *others = model.coefficients.values()
    assert 2 < first < 4
    assert all(0 <= each < 0.4 for each in others)
    held = np.array([float(row.is_held) for row in rows])
    new = labelled("both", 600, seed=2)
    assert ece(predict(model, new), np.array([float(row.is_held) for row in new])) < 0.06
    assert auroc(cross_fitted(rows, FITTED["both"]), held) > 0.85


def test_no_slope_goes_against_its_feature() -> None:
    model = fit(labelled("words", 200, slope=-3.0), FITTED["words"])
    assert min(model.coefficients.values()) == 0


def test_what_is_fitted_can_be_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [*labelled("both", 200), *labelled("words", 200)]
    file = tmp_path / "confidence.json"
    file.write_text(json.dumps(fit_all(rows)))
    models = read_models(str(file))
    assert set(models) == {"both", "words"}
    assert models["both"].least(0.2) < models["both"].least(0.02)
