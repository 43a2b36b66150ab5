"""Tests of differences against SciPy's, and against what must hold between equals."""

import numpy as np
import pytest
from scipy import stats

from rag_app.evaluation.significance import ALPHA, fewest, holm, p_of_mean, p_of_quantile

RANDOM = np.random.default_rng(5)


def scipys(ours: np.ndarray, theirs: np.ndarray, statistic: object) -> float:
    found = stats.permutation_test(
        (ours, theirs), statistic, permutation_type="samples", vectorized=True, n_resamples=20_000
    )
    return float(found.pvalue)


def mean_difference(ours: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    difference: np.ndarray = ours.mean(axis=axis) - theirs.mean(axis=axis)
    return difference


def median_difference(ours: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    difference: np.ndarray = np.median(ours, axis=axis) - np.median(theirs, axis=axis)
    return difference


@pytest.mark.parametrize(("pairs", "tolerance"), [(5, 1e-9), (11, 1e-9), (60, 0.02)])
def test_agrees_with_scipys(pairs: int, tolerance: float) -> None:
    theirs = RANDOM.normal(0, 1, pairs)
    ours = theirs + RANDOM.normal(0.3, 0.8, pairs)
    wanted = scipys(ours, theirs, mean_difference)
    assert p_of_mean(ours, theirs) == pytest.approx(wanted, abs=tolerance)
    wanted = scipys(ours, theirs, median_difference)
    assert p_of_quantile(ours, theirs, 0.5) == pytest.approx(wanted, abs=tolerance)


def test_hits_are_compared_by_mcnemars_exact_test() -> None:
    theirs = np.array([1.0] * 100 + [0.0] * 9 + [1.0] * 2)
    ours = np.array([1.0] * 100 + [1.0] * 9 + [0.0] * 2)
    assert p_of_mean(ours, theirs) == pytest.approx(stats.binomtest(9, 11).pvalue)


@pytest.mark.parametrize("questions", range(1, 16))
def test_few_questions_are_beyond_noise_only_where_they_can_be(questions: int) -> None:
    """All in one direction, the strongest that so many questions can say."""
    ours, theirs = np.ones(questions), np.zeros(questions)
    assert p_of_mean(ours, theirs) == pytest.approx(2.0 ** (1 - questions))
    uneven = np.arange(1, questions + 1, dtype=np.float64)
    assert p_of_mean(uneven, theirs) <= max(2.0 ** (1 - questions), 0.001)
    assert (p_of_mean(ours, theirs) < ALPHA) is (questions >= fewest(1))


def test_how_many_questions_there_must_be() -> None:
    assert [fewest(comparisons) for comparisons in (1, 2, 3, 5)] == [6, 7, 7, 8]


@pytest.mark.parametrize("questions", [4, 8, 12, 40])
def test_equals_are_beyond_noise_one_time_in_twenty_at_most(questions: int) -> None:
    times = 400
    hits = [RANDOM.binomial(1, 0.7, (2, questions)).astype(float) for _ in range(times)]
    assert sum(p_of_mean(*pair) < ALPHA for pair in hits) / times <= ALPHA + 0.03
    if questions <= 12:
        ranks = [RANDOM.random((2, questions)) for _ in range(times)]
        assert sum(p_of_mean(*pair) < ALPHA for pair in ranks) / times <= ALPHA + 0.03


def test_a_difference_is_found() -> None:
    theirs = RANDOM.lognormal(3, 0.4, 50)
    assert p_of_quantile(theirs * 1.5, theirs, 0.5) < 0.001
    assert p_of_quantile(theirs, theirs, 0.5) == 1
    assert p_of_mean(theirs, theirs) == 1
    many = RANDOM.random(3000)
    assert p_of_mean(many + 0.01 + RANDOM.random(3000) / 100, many) < 0.001


def test_questions_without_a_figure_are_left_out() -> None:
    nothing = np.array([np.nan, np.nan])
    assert p_of_mean(nothing, np.ones(2)) == 1
    assert p_of_quantile(nothing, np.ones(2), 0.5) == 1
    with_gaps = np.array([1.0, np.nan, 1, 1, 1, 1, 1])
    assert p_of_mean(with_gaps, np.zeros(7)) == pytest.approx(2.0**-5)


def test_several_comparisons_are_corrected() -> None:
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.6]) == [1.0, 1.0]
