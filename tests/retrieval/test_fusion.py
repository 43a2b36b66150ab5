"""Joining two searches, with hand-computed scores."""

import pytest

from rag_app.retrieval.fusion import prominence, reciprocal_rank_fusion, weighted


def test_prominence_is_the_best_less_the_mean_of_the_next_five() -> None:
    assert prominence({"a": 1.0, "b": 0.5, "c": 0.5, "d": 0.5, "e": 0.5, "f": 0.5, "g": 0.0}) == 0.5
    assert prominence({"a": 1.0, "b": 0.5}) == pytest.approx(0.9)  # three are not there
    assert prominence({"a": 1.0}) == 1.0
    assert prominence({}) == 0.0


def test_weighted_scores_by_hand() -> None:
    fused = weighted({"a": 0.9, "b": 0.5, "c": 0.1}, {"b": 8.0, "d": 2.0}, text_weight=0.5)
    # Vectors: a 1, b .5, c 0, prominence .9; words: b 1, d .25, prominence .95.
    share = 0.95 / (0.95 + 0.9)
    assert fused == {
        "b": pytest.approx((1 - share) * 0.5 + share),
        "a": pytest.approx(1 - share),
        "d": pytest.approx(share * 0.25),
        "c": 0.0,
    }
    assert list(fused) == ["b", "a", "d", "c"]


def test_a_search_that_cannot_tell_does_not_ruin_the_other() -> None:
    """All vectors are about alike, as of a language the model never saw; one row has the words."""
    dense = {f"wrong{n}": 0.31 - n * 0.001 for n in range(50)}
    text = {"right": 20.0, "wrong40": 4.0, "wrong41": 3.9}
    assert next(iter(weighted(dense, text, 0.5))) == "right"
    assert next(iter(reciprocal_rank_fusion(dense, text, 0.5))) != "right"


def test_nor_the_other_way_round() -> None:
    """The words are in many rows; one vector is by far the nearest."""
    dense = {"right": 0.8} | {f"wrong{n}": 0.3 - n * 0.001 for n in range(49)}
    text = {f"wrong{n}": 3.0 - n * 0.01 for n in range(49)}
    assert next(iter(weighted(dense, text, 0.65))) == "right"


def test_ranks_alone_by_hand() -> None:
    fused = reciprocal_rank_fusion({"a": 0.9, "b": 0.8}, {"b": 5.0}, text_weight=0.25)
    assert fused == {
        "b": pytest.approx(0.75 / 62 + 0.25 / 61),
        "a": pytest.approx(0.75 / 61),
    }
    assert list(fused) == ["b", "a"]


@pytest.mark.parametrize("fuse", [weighted, reciprocal_rank_fusion])
def test_one_search_without_hits_leaves_the_order_of_the_other(fuse: type) -> None:
    hits = {"a": 0.9, "b": 0.5, "c": 0.2}
    assert list(fuse(hits, {}, 0.65)) == ["a", "b", "c"]
    assert list(fuse({}, hits, 0.65)) == ["a", "b", "c"]
    assert fuse({}, {}, 0.65) == {}


@pytest.mark.parametrize(("weight", "first"), [(0.0, "near"), (1.0, "worded")])
def test_weights_at_the_ends_are_one_search_alone(weight: float, first: str) -> None:
    dense, text = {"near": 0.9, "worded": 0.1}, {"worded": 9.0, "near": 1.0}
    assert next(iter(weighted(dense, text, weight))) == first


def test_equal_scores_and_zeros_are_no_division_by_zero() -> None:
    assert set(weighted({"a": 0.5, "b": 0.5}, {"c": 0.0}, 0.5)) == {"a", "b", "c"}
