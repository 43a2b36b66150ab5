"""Two collections on the same questions, and whether the new one is good enough."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.study import ProgressBar, Settings, conduct
from rag_app.evaluation.summary import summarize
from rag_app.evaluation.variants import Variant

_CONDITION = re.compile(r"\s*([\w@.\-]+)\s*>=\s*([+-]?\d*\.?\d+)\s*\Z")


@dataclass(frozen=True)
class Requirement:
    """By how much a figure may change, at least."""

    metric: str
    least: float


def read_requirement(text: str) -> Requirement:
    """Read a condition like "hit@5 >= -0.01".

    Raises
    ------
    InputError
        If it is none.
    """
    match = _CONDITION.match(text)
    if match is None:
        raise InputError(
            f"--require {text!r} is not of the form METRIC >= CHANGE",
            'write e.g. "hit@5 >= -0.01": hit@5 may fall by one in a hundred',
        )
    return Requirement(match[1], float(match[2]))


def compare(
    before: Config,
    after: Config,
    questions: Sequence[EvalQuestion],
    required: Sequence[Requirement],
    *,
    progress_bar: ProgressBar,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Ask both collections the questions.

    Returns
    -------
    dict
        As `summarize`, with paired differences, and the requirements that ``failed``, in words.

    Raises
    ------
    InputError
        If a requirement's metric is not measured.
    RagAppError
        As `conduct`.
    """
    study = conduct(
        before,
        [Variant("before", before), Variant("after", after)],
        questions,
        Settings(answers=False, timed=min(50, len(questions))),
        results_folder(after),
        progress_bar=progress_bar,
        say=say,
    )
    summary = summarize(study)
    differences = summary["variants"][1]["differences"]
    failed = []
    for each in required:
        if each.metric not in differences:
            raise InputError(
                f"--require: {each.metric!r} is not measured on these questions",
                f"use one of {', '.join(differences)}",
            )
        change = differences[each.metric]["value"]
        if change < each.least:
            failed.append(f"{each.metric} changes by {change:+.3f}, required {each.least:+g}")
    return {**summary, "failed": failed}


def results_folder(config: Config) -> Path:
    """Return where outcomes are kept: beside a Milvus Lite database, else the compiled models."""
    store = config.vector_store
    return Path(store.uri if store.is_file else config.embedding.compiled_folder).parent / "eval"
