"""Outcomes → a figure for each question and metric.

The rank metrics are trec_eval's own, through `ir_measures`: the reference that the literature's
figures come from, in two small wheels. LlamaIndex's nDCG does not cut the ideal ranking at k and
its metrics refuse a question for which nothing was found; `ranx` would bring numba and pandas.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rag_app.answering.abstaining import ABSTAINS
from rag_app.answering.citations import CITATION
from rag_app.evaluation.bootstrap import Values
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.results import Outcome

CUTOFFS = (1, 2, 5, 10)
RANKS = 10
"""Ranks that MRR, nDCG and recall look at."""
VIEWS = (1000, 2000, 4000)
"""Characters of ``@1000ch`` and so on."""

_ANSWER_METRICS = (
    *("exact_match", "f1", "contains", "cites", "citation_precision"),
    *("answered", "abstained"),
)
_REFUSALS = ("not_refused", "refused")
_MISSING = "-"
"""Stands in for the relevant node where no node of the collection holds the answer."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CJK = re.compile(r"([\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff])")


def measure(
    questions: Sequence[EvalQuestion],
    outcomes: Sequence[Outcome],
    depth: int,
    abstains: re.Pattern[str] = ABSTAINS,
) -> dict[str, Values]:
    """Return each metric's figures in the questions' order, NaN where one does not apply.

    Parameters
    ----------
    depth
        How many nodes were retrieved: no cutoff goes beyond it.
    abstains
        What an answer says that gives none.
    """
    return {
        **_rank_metrics(outcomes, depth),
        **_views(outcomes),
        **_packing(outcomes),
        **_refusals(questions, outcomes),
        **_answers(questions, outcomes, abstains),
        **_judged(outcomes),
        **_costs(outcomes),
    }


def metric_names(depth: int, *, answers: bool, judges: Sequence[str]) -> list[str]:
    """Name the metrics of quality, for which higher is better, that a run measures."""
    names = [f"hit@{cutoff}" for cutoff in CUTOFFS if cutoff <= depth]
    names += [f"{name}@{min(RANKS, depth)}" for name in ("mrr", "ndcg", "recall")]
    names += [f"@{view}ch" for view in VIEWS]
    names += ("in_prompt", *_REFUSALS)
    if answers:
        names += _ANSWER_METRICS
    return [*names, *judges]


def hit_curve(outcomes: Sequence[Outcome], depth: int) -> list[float]:
    """Return hit@1, hit@2, … hit@depth."""
    ranks = [outcome.first_hit for outcome in outcomes if outcome.gold is not None]
    return [
        sum(rank is not None and rank <= cutoff for rank in ranks) / max(len(ranks), 1)
        for cutoff in range(1, depth + 1)
    ]


def normalize_answer(text: str) -> str:
    """Normalise as SQuAD's evaluation script does: case, punctuation, articles, white space.

    Punctuation is all of Unicode's, and characters of Chinese, Japanese and Korean are words of
    their own, as in the script of MLQA, so that other languages can be compared as well.
    """
    kept = "".join(character for character in text.lower() if not _is_punctuation(character))
    return " ".join(_CJK.sub(r" \1 ", _ARTICLES.sub(" ", kept)).split())


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Return 1.0 if an answer is one of the right ones."""
    return float(any(normalize_answer(answer) == normalize_answer(each) for each in right))


def token_f1(answer: str, right: Sequence[str]) -> float:
    """Return the best F1 of an answer's words and a right answer's."""
    return max((_f1(answer, each) for each in right), default=0.0)


def contains(answer: str, right: Sequence[str]) -> float:
    """Return 1.0 if a right answer stands in the answer, word for word."""
    # Spaces around both, so that "art" does not stand in "party".
    padded = f" {normalize_answer(answer)} "
    return float(any(f" {normalize_answer(each)} " in padded for each in right))


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _f1(answer: str, right: str) -> float:
    given, wanted = normalize_answer(answer).split(), normalize_answer(right).split()
    if not given or not wanted:
        return float(given == wanted)
    same = sum((Counter(given) & Counter(wanted)).values())
    if not same:
        return 0.0
    precision, recall = same / len(given), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _column(
    outcomes: Sequence[Outcome], figure: Callable[[Outcome], float | bool | None]
) -> Values:
    return _values(figure(outcome) for outcome in outcomes)


def _values(values: Iterable[float | bool | None]) -> Values:
    return np.array([np.nan if value is None else float(value) for value in values])


def _rank_metrics(outcomes: Sequence[Outcome], depth: int) -> dict[str, Values]:
    import ir_measures  # 0.2 s

    ranks = min(RANKS, depth)
    named: dict[Any, str] = {
        ir_measures.Success @ cutoff: f"hit@{cutoff}" for cutoff in CUTOFFS if cutoff <= depth
    }
    named[ir_measures.RR @ ranks] = f"mrr@{ranks}"
    named[ir_measures.nDCG @ ranks] = f"ndcg@{ranks}"
    named[ir_measures.R @ ranks] = f"recall@{ranks}"
    columns = {name: np.full(len(outcomes), np.nan) for name in named.values()}
    relevant, run = [], []
    for at, outcome in enumerate(outcomes):
        if outcome.gold is None:
            continue
        ids = _standing_for(outcome)
        hits = {id_ for id_, found in zip(ids, outcome.found, strict=True) if found.hit}
        # trec_eval leaves a question without a relevant document out; here it counts as a miss.
        wanted = set(outcome.gold) | hits or {_MISSING}
        relevant += [ir_measures.Qrel(str(at), id_, 1) for id_ in sorted(wanted)]
        # trec_eval ranks by score alone, and those of a retriever may be equal.
        run += [ir_measures.ScoredDoc(str(at), id_, -rank) for rank, id_ in enumerate(ids)]
    if relevant:
        for metric in ir_measures.iter_calc(list(named), relevant, run):
            columns[named[metric.measure]][int(metric.query_id)] = metric.value
    return columns


def _standing_for(outcome: Outcome) -> list[str]:
    """Return the found nodes' ids; a hit that is no node of the collection stands for one that is.

    A retriever may merge a node with its neighbours.
    """
    gold = outcome.gold or []
    free = [id_ for id_ in gold if id_ not in {found.id for found in outcome.found}]
    return [
        free.pop(0) if found.hit and found.id not in gold and free else found.id
        for found in outcome.found
    ]


def _views(outcomes: Sequence[Outcome]) -> dict[str, Values]:
    def within(view: int) -> Callable[[Outcome], bool | None]:
        def figure(outcome: Outcome) -> bool | None:
            if outcome.gold is None:
                return None
            return outcome.reach is not None and outcome.reach <= view

        return figure

    return {f"@{view}ch": _column(outcomes, within(view)) for view in VIEWS}


def _packing(outcomes: Sequence[Outcome]) -> dict[str, Values]:
    return {
        "in_prompt": _column(outcomes, lambda outcome: outcome.in_prompt),
        "kept": _column(outcomes, lambda outcome: outcome.kept),
        "trimmed": _column(outcomes, lambda outcome: outcome.trimmed),
        "dropped": _column(outcomes, lambda outcome: outcome.dropped),
    }


def _refusals(questions: Sequence[EvalQuestion], outcomes: Sequence[Outcome]) -> dict[str, Values]:
    """Return whether what has an answer was not refused, and whether what has none was."""
    pairs = list(zip(questions, outcomes, strict=True))
    answerable = [each if not asked.is_unanswerable else None for asked, each in pairs]
    others = [each if asked.is_unanswerable else None for asked, each in pairs]
    return {
        "not_refused": _values(
            None if each is None or each.refused is None else not each.refused
            for each in answerable
        ),
        "refused": _values(None if each is None else each.refused for each in others),
    }


def confidence_columns(
    questions: Sequence[EvalQuestion], outcomes: Sequence[Outcome]
) -> tuple[Values, Values]:
    """Return each question's confidence, and whether its contexts held the answer."""
    return (
        _values(outcome.confidence for outcome in outcomes),
        _values(
            False if question.is_unanswerable else outcome.in_prompt
            for question, outcome in zip(questions, outcomes, strict=True)
        ),
    )


def _answers(
    questions: Sequence[EvalQuestion], outcomes: Sequence[Outcome], abstains: re.Pattern[str]
) -> dict[str, Values]:
    columns: dict[str, list[float | None]] = {name: [] for name in _ANSWER_METRICS}
    for question, outcome in zip(questions, outcomes, strict=True):
        figures = _answer_figures(question, outcome, abstains)
        for name, column in columns.items():
            column.append(figures.get(name))
    return {
        name: np.array([np.nan if value is None else value for value in column])
        for name, column in columns.items()
    }


def _answer_figures(
    question: EvalQuestion, outcome: Outcome, abstains: re.Pattern[str]
) -> Mapping[str, float | None]:
    if outcome.answer is None or question.answers is None:
        return {}
    # The numbers in brackets would count as words of the answer.
    said = CITATION.sub("", outcome.answer)
    gives_none = not said.strip() or abstains.search(said) is not None
    if question.is_unanswerable:
        return {"abstained": float(gives_none)}
    cited = outcome.cited
    return {
        "exact_match": exact_match(said, question.answers),
        "f1": token_f1(said, question.answers),
        "contains": contains(said, question.answers),
        "cites": float(bool(cited)),
        # Of an answer that cites nothing there is no precision, rather than one of 0.
        "citation_precision": sum(cited) / len(cited) if cited else None,
        "answered": float(not gives_none),
    }


def _judged(outcomes: Sequence[Outcome]) -> dict[str, Values]:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.judged)
    return {
        name: _column(outcomes, lambda outcome, name=name: outcome.judged.get(name))  # type: ignore[misc]
        for name in names
    }


def _costs(outcomes: Sequence[Outcome]) -> dict[str, Values]:
    def tokens(count: Callable[[Outcome], int]) -> Values:
        # 0 where no LLM was asked: as figures they would only pull a mean down.
        return _column(outcomes, lambda outcome: count(outcome) if outcome.prompt_tokens else None)

    return {
        "prompt_tokens": tokens(lambda outcome: outcome.prompt_tokens),
        "completion_tokens": tokens(lambda outcome: outcome.completion_tokens),
        "cached": _column(outcomes, lambda outcome: outcome.cached),
    }


def timings(outcomes: Sequence[Outcome]) -> dict[str, Values]:
    """Return milliseconds by stage, NaN for questions that were not timed."""
    stages = dict.fromkeys(stage for outcome in outcomes for stage in outcome.ms)
    return {
        stage: _column(outcomes, lambda outcome, stage=stage: outcome.ms.get(stage))  # type: ignore[misc]
        for stage in stages
    }
