"""Metrics against published and hand-computed examples, intervals against SciPy's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from rag_app.answering.abstaining import ABSTAINS
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.evaluation import bootstrap
from rag_app.evaluation.metrics import (
    contains,
    exact_match,
    hit_curve,
    measure,
    metric_names,
    normalize_answer,
    timings,
    token_f1,
)
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.results import Found, Outcome


def outcome(hits: str, gold: Sequence[str], key: str = "q", **values: object) -> Outcome:
    """An outcome whose found nodes are called by letters; capitals are hits."""
    found = [Found(letter.lower(), "a.md", None, letter.isupper()) for letter in hits]
    return Outcome(key, found, list(gold), **values)  # type: ignore[arg-type]


def figures(one: Outcome, depth: int = 10, **known: object) -> dict[str, float]:
    question = EvalQuestion(1, "1", "?", **known)  # type: ignore[arg-type]
    return {name: float(column[0]) for name, column in measure([question], [one], depth).items()}


def test_rank_metrics_by_hand() -> None:
    """Relevant at ranks 2 and 4; a third one was not found."""
    got = figures(outcome("xAyBz", "abc"))
    assert [got[f"hit@{k}"] for k in (1, 2, 5, 10)] == [0, 1, 1, 1]
    assert got["mrr@10"] == pytest.approx(1 / 2)
    assert got["recall@10"] == pytest.approx(2 / 3)
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert got["ndcg@10"] == pytest.approx(gained / ideal)


def test_ideal_ranking_is_cut_as_trec_eval_cuts_it() -> None:
    """12 relevant nodes, of which the best 10 were found: a perfect ranking (nDCG of 1)."""
    got = figures(outcome("ABCDEFGHIJ", "abcdefghijkl"))
    assert got["ndcg@10"] == pytest.approx(1.0)
    assert got["recall@10"] == pytest.approx(10 / 12)


def test_wikipedias_example_of_dcg_with_binary_gains() -> None:
    """Its ranking is 3, 2, 3, 0, 1, 2: relevant but for the fourth; two more were not found."""
    got = figures(outcome("ABCxDE", "abcdefg"))
    gained = sum(1 / math.log2(rank + 1) for rank in (1, 2, 3, 5, 6))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 8))
    assert got["ndcg@10"] == pytest.approx(gained / ideal)


def test_nothing_found_and_nothing_to_find_are_misses() -> None:
    for one in (outcome("", "a"), outcome("xyz", "a"), outcome("xyz", "")):
        got = figures(one)
        assert (got["hit@10"], got["mrr@10"], got["ndcg@10"], got["recall@10"]) == (0, 0, 0, 0)


def test_a_question_without_evidence_has_no_rank_metrics() -> None:
    got = figures(Outcome("q", [Found("a", "a.md", 1.0, False)]))
    assert all(math.isnan(got[name]) for name in ("hit@1", "mrr@10", "recall@10", "@1000ch"))


def test_a_merged_node_stands_for_one_of_the_collections() -> None:
    """A retriever that merges neighbours returns a node whose id is none of the relevant ones."""
    got = figures(outcome("xM", "a"))
    assert (got["mrr@10"], got["recall@10"], got["hit@2"]) == (0.5, 1.0, 1.0)


def test_cutoffs_do_not_go_beyond_the_depth() -> None:
    got = figures(outcome("xyzA", "a"), depth=4)
    assert "hit@5" not in got
    assert "mrr@4" in got
    assert set(metric_names(4, answers=True, judges=())) <= set(got)
    assert set(metric_names(10, answers=False, judges=())) <= set(figures(outcome("A", "a")))


def test_order_counts_and_not_the_score() -> None:
    found = [Found("x", "", 0.1, False), Found("a", "", 0.9, True)]
    assert figures(Outcome("q", found, ["a"]))["mrr@10"] == 0.5


def test_hit_curve() -> None:
    outcomes = [outcome("A", "a"), outcome("xB", "b"), outcome("xyz", "c"), Outcome("q")]
    assert hit_curve(outcomes, 3) == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_answer_within_the_first_characters() -> None:
    got = figures(outcome("A", "a", reach=1500))
    assert (got["@1000ch"], got["@2000ch"], got["@4000ch"]) == (0, 1, 1)
    assert figures(outcome("x", "a"))["@4000ch"] == 0


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The Eiffel Tower", "eiffel tower"),
        ("  an  apple,   a day! ", "apple day"),
        ("$5.5 million", "55 million"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        ("“Denver Broncos”", "denver broncos"),
        ("中国\uff0c北京", "中 国 北 京"),
    ],
)
def test_squads_normalisation(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


def test_exact_match_as_squad() -> None:
    """SQuAD 1.1's first question of the dev set: several right answers, articles do not count."""
    right = ["Denver Broncos", "Denver Broncos", "Denver Broncos"]
    assert exact_match("The Denver Broncos.", right) == 1
    assert exact_match("Broncos", right) == 0
    assert exact_match("Carolina", ["Denver", "carolina"]) == 1


def test_token_f1_as_squad() -> None:
    right = ["Santa Clara, California", "Levi's Stadium"]
    assert token_f1("Levi's Stadium in Santa Clara, California", right) == pytest.approx(
        2 * (3 / 6) * 1 / (3 / 6 + 1)
    )
    assert token_f1("the Broncos", ["Denver Broncos"]) == pytest.approx(2 / 3)
    assert token_f1("Carolina", ["Denver Broncos"]) == 0
    assert token_f1("to be or to be", ["to be"]) == pytest.approx(2 * 0.4 * 1 / 1.4)
    assert token_f1("", ["the"]) == 1  # both are empty once normalised
    assert token_f1("a word", ["the"]) == 0


def test_contained_answers_are_whole_words() -> None:
    assert contains("It was built in 1889, in Paris.", ["1889"]) == 1
    assert contains("It was built in 18890.", ["1889"]) == 0


def test_citations_are_no_part_of_the_answer() -> None:
    got = figures(outcome("A", "a", answer="Paris [2].", cited=[True, False]), answers=("Paris",))
    assert (got["exact_match"], got["f1"]) == (1, 1)
    assert (got["cites"], got["citation_precision"]) == (1, 0.5)
    got = figures(outcome("A", "a", answer="Paris"), answers=("Paris",))
    assert got["cites"] == 0
    assert math.isnan(got["citation_precision"])


@pytest.mark.parametrize(
    "text",
    [
        NOTHING_RELEVANT,
        "The documents do not answer it.",
        "The provided context does not contain this information.",
        "This is not mentioned in the context.",
        "I don't know.",
        "There is no information about that in the documents.",
        "I cannot answer this question from the context.",
        "The context is not relevant to the question.",
        "",
    ],
)
def test_abstaining_is_recognised(text: str) -> None:
    unanswerable = figures(Outcome("q", answer=text), answers=())
    assert unanswerable["abstained"] == 1
    assert math.isnan(unanswerable["exact_match"])
    answerable = figures(outcome("A", "a", answer=text), answers=("Paris",))
    assert answerable["answered"] == 0
    assert math.isnan(answerable["abstained"])


@pytest.mark.parametrize(
    "text", ["Paris [1].", "It is not far from Rome.", "No trains run.", "He knows no fear."]
)
def test_answers_do_not_pass_for_abstaining(text: str) -> None:
    assert not ABSTAINS.search(text)
    assert figures(Outcome("q", answer=text), answers=())["abstained"] == 0


def test_questions_that_were_not_answered_have_no_answer_metrics() -> None:
    got = figures(outcome("A", "a"), answers=("Paris",))
    assert all(math.isnan(got[name]) for name in ("exact_match", "f1", "answered", "cites"))
    assert math.isnan(got["prompt_tokens"])


def test_timings_leave_out_what_was_not_timed() -> None:
    times = timings([Outcome("a", ms={"embed": 2.0}), Outcome("b")])
    assert times["embed"][0] == 2
    assert math.isnan(times["embed"][1])


VALUES = np.random.default_rng(1).binomial(1, 0.7, 120).astype(float)
OTHER = np.clip(VALUES + np.random.default_rng(2).binomial(1, 0.3, 120), 0, 1).astype(float)


def reference(data: np.ndarray, statistic: object = np.mean) -> tuple[float, float]:
    found = stats.bootstrap(
        (data,), statistic, n_resamples=10_000, method="percentile", rng=np.random.default_rng(3)
    )
    return found.confidence_interval.low, found.confidence_interval.high


FIGURES = np.random.default_rng(6).beta(4, 2, 120)


def test_interval_agrees_with_scipys() -> None:
    found = bootstrap.means({"f1": FIGURES})["f1"]
    assert found.value == pytest.approx(FIGURES.mean())
    assert (found.low, found.high) == pytest.approx(reference(FIGURES), abs=0.01)
    assert found.n == 120


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(8, 8, 0.676, 1.0), (0, 8, 0.0, 0.324), (1, 1, 0.207, 1.0), (84, 120, 0.613, 0.775)],
)
def test_a_share_has_wilsons_interval(right: int, of: int, low: float, high: float) -> None:
    hits = np.array([1.0] * right + [0.0] * (of - right) + [np.nan])
    found = bootstrap.means({"hit": hits})["hit"]
    assert (found.value, found.n) == (right / of, of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.001)
    difference = bootstrap.differences({"hit": hits}, {"hit": hits})["hit"]
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_paired_difference_agrees_with_scipys() -> None:
    found = bootstrap.differences({"hit": OTHER}, {"hit": VALUES})["hit"]
    assert found.value == pytest.approx(OTHER.mean() - VALUES.mean())
    assert (found.low, found.high) == pytest.approx(reference(OTHER - VALUES), abs=0.01)
    assert found.high - found.low < 0.15  # two intervals of their own would overlap


def test_quantile_agrees_with_scipys() -> None:
    times = np.random.default_rng(4).lognormal(3, 0.4, 80)
    found = bootstrap.quantile(times, 0.5)
    assert found is not None
    assert found.value == pytest.approx(np.median(times))
    assert (found.low, found.high) == pytest.approx(reference(times, np.median), rel=0.05)
    slower = bootstrap.quantile_difference(times + 5, times, 0.5)
    assert slower is not None
    assert (slower.value, slower.low, slower.high) == pytest.approx((5, 5, 5))
    assert bootstrap.quantile(np.array([np.nan]), 0.5) is None
    assert bootstrap.quantile_difference(np.array([np.nan]), np.array([1.0]), 0.5) is None


def test_figures_that_some_questions_lack() -> None:
    some = FIGURES.copy()
    some[::2] = np.nan
    found = bootstrap.means({"some": some, "all": FIGURES, "none": np.full(120, np.nan)})
    assert set(found) == {"some", "all"}
    assert (found["some"].n, found["all"].n) == (60, 120)
    assert found["some"].value == pytest.approx(np.nanmean(some))
    low, high = reference(some[1::2])
    assert (found["some"].low, found["some"].high) == pytest.approx((low, high), abs=0.02)


def test_more_questions_than_are_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap.means({"f1": FIGURES})["f1"]
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 1000)
    parts = bootstrap.means({"f1": FIGURES})["f1"]
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert bootstrap.means({"a": FIGURES}, 5) == bootstrap.means({"a": FIGURES}, 5)


def test_one_question_has_an_interval_without_width() -> None:
    found = bootstrap.means({"a": np.array([0.4])})["a"]
    assert (found.value, found.low, found.high, found.n) == (0.4, 0.4, 0.4, 1)
