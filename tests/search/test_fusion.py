"""Joining two searches, with hand-computed scores."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from rag_app.search.background import backgrounds
from rag_app.search.fusion import Background, Scores, reciprocal_rank_fusion, weighted

Fuse = Callable[[Scores, Scores, float], dict[str, float]]


def by_scores(dense: Scores, text: Scores, text_weight: float) -> dict[str, float]:
    return weighted(dense, text, text_weight, Background(0.0, 0.2))


def test_surprise_is_how_seldom_an_unrelated_row_comes_as_near() -> None:
    background = Background(mean=0.1, deviation=0.1)
    assert background.surprise(0.1) == pytest.approx(math.log(2))  # half of them do
    assert background.surprise(0.2) == pytest.approx(-math.log(0.158655), abs=1e-5)
    assert background.surprise(0.4) == pytest.approx(-math.log(0.00134990), abs=1e-5)
    assert background.surprise(-0.9) == pytest.approx(0.0)


def test_surprise_goes_on_where_floats_end() -> None:
    background = Background(mean=0.0, deviation=0.01)
    scores = [background.surprise(score) for score in (0.34, 0.349, 0.351, 0.36, 1.0)]
    assert scores == sorted(scores)
    assert scores[2] - scores[1] == pytest.approx(0.2 * 35, rel=0.1)
    assert math.isfinite(scores[-1])


def test_vectors_without_spread_tell_nothing() -> None:
    assert Background(0.5, 0.0).surprise(0.9) == 0.0
    fused = weighted({"near": 0.9, "far": 0.1}, {"far": 1.0}, 0.5, Background(0.5, 0.0))
    assert fused == {"far": 0.5, "near": 0.0}


def test_background_of_each_metric() -> None:
    rows = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    question = [1.0, 0.0]
    assert backgrounds([question], rows, "COSINE") == [Background(0.5, 0.5)]
    assert backgrounds([question], rows, "IP") == [Background(1.0, 1.0)]
    assert backgrounds([question], rows, "L2") == [Background(-1.5, 0.5)]
    assert backgrounds([question], rows[:1], "COSINE") == [Background(0.0, 0.0)]
    assert backgrounds([question], rows[[0, 0, 0]], "COSINE")[0].deviation == 0.0


def test_weighted_scores_by_hand() -> None:
    background = Background(mean=0.0, deviation=0.1)
    near = {score: background.surprise(score) for score in (0.9, 0.5, 0.1)}
    fused = weighted({"a": 0.9, "b": 0.5, "c": 0.1}, {"b": 8.0, "d": 2.0}, 0.75, background)
    assert fused == {
        "a": pytest.approx(0.25 * near[0.9]),
        "b": pytest.approx(0.25 * near[0.5] + 6),
        "d": pytest.approx(0.25 * near[0.1] + 1.5),  # not fetched: as far as the farthest that was
        "c": pytest.approx(0.25 * near[0.1]),  # fewer than the vectors': it has no word in common
    }
    assert list(fused) == ["a", "b", "d", "c"]


def test_a_row_that_the_words_may_have_passed_over_counts_as_their_last() -> None:
    fused = weighted({"a": 0.9, "b": 0.5}, {"c": 8.0, "d": 2.0}, 1.0, Background(0.0, 0.1))
    assert fused == {"c": 8.0, "d": 2.0, "a": 2.0, "b": 2.0}


def test_a_search_that_cannot_tell_does_not_ruin_the_other() -> None:
    """All vectors are about alike, as of a language the model never saw; one row has the words."""
    dense = {f"wrong{n}": 0.31 - n * 0.001 for n in range(50)}
    text = {"right": 20.0, "wrong40": 4.0, "wrong41": 3.9}
    assert next(iter(weighted(dense, text, 0.5, Background(0.2, 0.05)))) == "right"
    assert next(iter(reciprocal_rank_fusion(dense, text, 0.5))) != "right"


def test_nor_the_other_way_round() -> None:
    """The words are in many rows; one vector is by far the nearest."""
    dense = {"right": 0.8} | {f"wrong{n}": 0.3 - n * 0.001 for n in range(49)}
    text = {f"wrong{n}": 3.0 - n * 0.01 for n in range(49)}
    assert next(iter(weighted(dense, text, 0.7, Background(0.1, 0.1)))) == "right"


def test_noise_is_not_stretched_into_evidence() -> None:
    """What vectors put on top by chance, and words by three words more, are no equals."""
    dense = {"chance": 0.36} | {f"row{n}": 0.35 - n * 0.002 for n in range(49)}
    text = {"right": 18.0, "chance": 9.0} | {f"row{n}": 8.0 - n * 0.1 for n in range(48)}
    assert next(iter(weighted(dense, text, 0.7, Background(0.2, 0.07)))) == "right"


def test_ranks_alone_by_hand() -> None:
    fused = reciprocal_rank_fusion({"a": 0.9, "b": 0.8}, {"b": 5.0}, text_weight=0.25)
    assert fused == {
        "b": pytest.approx(0.75 / 62 + 0.25 / 61),
        "a": pytest.approx(0.75 / 61),
    }
    assert list(fused) == ["b", "a"]


@pytest.mark.parametrize("fuse", [by_scores, reciprocal_rank_fusion])
def test_one_search_without_hits_leaves_the_order_of_the_other(fuse: Fuse) -> None:
    hits = {"a": 0.9, "b": 0.5, "c": 0.2}
    assert list(fuse(hits, {}, 0.65)) == ["a", "b", "c"]
    assert list(fuse({}, hits, 0.65)) == ["a", "b", "c"]
    assert fuse({}, {}, 0.65) == {}


@pytest.mark.parametrize(("weight", "first"), [(0.0, "near"), (1.0, "worded")])
def test_weights_at_the_ends_are_one_search_alone(weight: float, first: str) -> None:
    dense, text = {"near": 0.9, "worded": 0.1}, {"worded": 9.0, "near": 1.0}
    assert next(iter(by_scores(dense, text, weight))) == first


def test_equal_scores_and_zeros_are_no_division_by_zero() -> None:
    assert set(by_scores({"a": 0.5, "b": 0.5}, {"c": 0.0}, 0.5)) == {"a", "b", "c"}
