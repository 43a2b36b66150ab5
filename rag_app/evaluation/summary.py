"""Outcomes → the figures: for each variant, and between the first one and the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rag_app.config.loader import config_rows
from rag_app.evaluation import bootstrap, significance
from rag_app.evaluation.abstention import summarize_confidence
from rag_app.evaluation.bootstrap import Values
from rag_app.evaluation.metrics import (
    confidence_columns,
    contains,
    hit_curve,
    measure,
    timings,
    token_f1,
)
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.results import Outcome
from rag_app.evaluation.study import Study, VariantRun
from rag_app.evaluation.timing import STAGES

WORST = 15
"""Questions shown for each variant, of each kind."""
RIGHT = 4.0
"""What a judge gives to a correct answer at least, of 5: LlamaIndex's threshold."""
PERCENTILES = {"p50": 0.5, "p95": 0.95}
COUNTS = ("kept", "trimmed", "dropped", "prompt_tokens", "completion_tokens")
"""Figures that are neither good nor bad."""


def summarize(study: Study) -> dict[str, Any]:
    """Return all figures as plain dictionaries and lists: what ``--json`` prints.

    Every figure is ``{"value", "low", "high", "n"}``. A difference has ``p`` as well, corrected for
    the number of variants, whether it is ``beyond_noise``, and whether ``too_few`` questions have
    the figure for any difference to be.
    """
    columns = [
        measure(study.questions, run.outcomes, study.settings.depth, study.settings.abstains)
        for run in study.runs
    ]
    times = [timings(run.outcomes) for run in study.runs]
    seed = study.settings.seed
    variants = []
    for number, run in enumerate(study.runs):
        figures = bootstrap.means(columns[number], seed)
        confidence = summarize_confidence(*confidence_columns(study.questions, run.outcomes), seed)
        summary = {
            **_about(run),
            "metrics": {
                **{name: figure.to_dict() for name, figure in figures.items()},
                **confidence.get("figures", {}),
            },
            "risk_curve": confidence.get("curve", []),
            "ms": _percentiles(times[number], seed),
            "hit_curve": hit_curve(run.outcomes, study.settings.depth),
            "ranks": _ranks(run.outcomes),
            "worst": _worst(study.questions, run.outcomes),
            "wrong_answers": _wrong_answers(study.questions, run.outcomes),
        }
        if number:
            summary["differences"] = _differences(columns[number], columns[0], seed)
            summary["ms_differences"] = _ms_differences(times[number], times[0], seed)
        variants.append(summary)
    # When all variants are there: how many are compared is what a p is corrected for.
    _correct([each["differences"] for each in variants[1:]])
    for stage in times[0]:
        _correct([each["ms_differences"].get(stage, {}) for each in variants[1:]])
    return {
        "questions": {
            "asked": len(study.questions),
            "unanswerable": sum(each.is_unanswerable for each in study.questions),
            "without_evidence": sum(
                not each.has_evidence and not each.is_unanswerable for each in study.questions
            ),
        },
        "date": datetime.now(UTC).date().isoformat(),
        "depth": study.settings.depth,
        "seed": seed,
        "resamples": bootstrap.RESAMPLES,
        "variants": variants,
    }


def _about(run: VariantRun) -> dict[str, Any]:
    config = run.variant.config
    rows = {row["key"]: (row["value"], row["origin"]) for row in config_rows(config)}
    graded = [outcome for outcome in run.outcomes if outcome.gold is not None]
    return {
        "name": run.variant.name,
        "overrides": dict(run.variant.overrides),
        "profile": config.profile,
        "collection": config.vector_store.collection,
        "nodes": run.nodes,
        "results": str(run.results),
        "asked_before": run.before,
        "bad_lines": [line.to_dict() for line in run.bad],
        "out_of_reach": sum(not outcome.gold for outcome in graded),
        "config": {key: value for key, (value, _) in rows.items() if key != "profile"},
        "set": {key: origin for key, (_, origin) in rows.items() if origin != "default"},
    }


def _percentiles(times: Mapping[str, Values], seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in STAGES:
        if stage not in times:
            continue
        figures = {
            name: bootstrap.quantile(times[stage], share, seed)
            for name, share in PERCENTILES.items()
        }
        found[stage] = {name: figure.to_dict() for name, figure in figures.items() if figure}
    return {stage: figures for stage, figures in found.items() if figures}


def _differences(
    columns: Mapping[str, Values], baseline: Mapping[str, Values], seed: int
) -> dict[str, Any]:
    found = bootstrap.differences(columns, baseline, seed)
    return {
        name: {
            **figure.to_dict(),
            "p": significance.p_of_mean(columns[name], baseline[name], seed),
        }
        for name, figure in found.items()
    }


def _ms_differences(
    times: Mapping[str, Values], baseline: Mapping[str, Values], seed: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in times:
        for name, share in PERCENTILES.items() if stage in baseline else ():
            figure = bootstrap.quantile_difference(times[stage], baseline[stage], share, seed)
            if figure:
                p = significance.p_of_quantile(times[stage], baseline[stage], share, seed)
                found.setdefault(stage, {})[name] = {**figure.to_dict(), "p": p}
    return found


def _correct(differences: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Say of each figure of all variants whether it is beyond noise: several are compared."""
    for name in dict.fromkeys(name for each in differences for name in each):
        figures = [each[name] for each in differences if name in each]
        corrected = significance.holm([figure["p"] for figure in figures])
        for figure, p in zip(figures, corrected, strict=True):
            figure["p"] = p
            figure["beyond_noise"] = p < significance.ALPHA
            figure["too_few"] = figure["n"] < significance.fewest(len(figures))


def _ranks(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Count where the first hit fell: by rank from 1, and "none"."""
    ranks = Counter(outcome.first_hit for outcome in outcomes if outcome.gold is not None)
    missed = ranks.pop(None, 0)
    counts = {str(rank): ranks[rank] for rank in sorted(rank for rank in ranks if rank)}
    return {**counts, "none": missed}


def _worst(questions: Sequence[EvalQuestion], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the questions whose answer came last or never, with what came instead."""
    graded = [
        (question, outcome)
        for question, outcome in zip(questions, outcomes, strict=True)
        if outcome.gold is not None and outcome.first_hit != 1
    ]
    # "Never" is a rank behind all others.
    graded.sort(key=lambda pair: (-(pair[1].first_hit or 10**6), pair[0].line))
    return [
        {
            "line": question.line,
            "id": question.id,
            "question": question.question,
            "answers": list(question.answers or ()),
            "files": list(question.files),
            "first_hit": outcome.first_hit,
            "nodes_with_the_answer": len(outcome.gold or ()),
            "answer": outcome.answer,
            "found": [
                {"rank": rank, "path": each.path, "score": each.score, "text": each.text}
                for rank, each in enumerate(outcome.found[:3], start=1)
                if each.text  # only the first few have it
            ],
        }
        for question, outcome in graded[:WORST]
    ]


def _wrong_answers(
    questions: Sequence[EvalQuestion], outcomes: Sequence[Outcome]
) -> list[dict[str, Any]]:
    """Return the questions whose answer stood in the prompt, and was not given."""
    wrong = [
        (token_f1(outcome.answer, question.answers), question, outcome)
        for question, outcome in zip(questions, outcomes, strict=True)
        if outcome.in_prompt and question.answers and outcome.answer is not None
        if not _is_right(outcome, question.answers)
    ]
    wrong.sort(key=lambda each: (each[0], each[1].line))
    return [
        {
            "line": question.line,
            "id": question.id,
            "question": question.question,
            "answers": list(question.answers or ()),
            "files": list(question.files),
            "first_hit": outcome.first_hit,
            "answer": outcome.answer,
            "correctness": outcome.judged.get("correctness"),
        }
        for _, question, outcome in wrong[:WORST]
    ]


def _is_right(outcome: Outcome, answers: Sequence[str]) -> bool:
    """Whether the judge is content with an answer, or it has a right one in it."""
    score = outcome.judged.get("correctness")
    return score >= RIGHT if score is not None else bool(contains(outcome.answer or "", answers))
