"""What a batch's output has of earlier runs: answers stay, failures are asked again, to a limit."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rag_app.json_lines import read_own_lines
from rag_app.questions import Question

RETRIES = 2
"""How often later runs ask a question again that failed, unless they are told otherwise."""

_Key = tuple[str | None, str]


@dataclass
class Kept:
    """What a file of answers has, by the questions' ids and texts.

    Attributes
    ----------
    answered
        How often a question is answered.
    failed
        How often a question was asked in vain.
    """

    answered: Counter[_Key] = field(default_factory=Counter)
    failed: dict[_Key, int] = field(default_factory=dict)


def read_answers(output: Path) -> Kept:
    """Read a file of answers, and cut off a last line that was not finished.

    Raises
    ------
    InputError
        If the file is something else: it is not touched.
    """
    kept = Kept()
    lines = read_own_lines(
        output,
        '{"line": ',
        _parsed,
        what="answers",
        remedy="name another one after -o, or delete it",
    )
    for key, attempt in lines:
        if attempt is None:
            kept.answered[key] += 1
        else:
            # A line for each run that asked it in vain: the highest attempt is the latest.
            kept.failed[key] = max(attempt, kept.failed.get(key, 0))
    return kept


def _parsed(row: dict[str, Any]) -> tuple[_Key, int | None]:
    """Return a line's question, and of a failure which attempt it was."""
    key = (row["id"], row["question"])
    if not isinstance(row["line"], int) or not isinstance(row["question"], str):
        raise TypeError("not an answer")
    if "error" in row:
        return key, int(row["attempt"])
    if not isinstance(row["answer"], str) or not isinstance(row["sources"], list):
        raise TypeError("not an answer")
    return key, None


def still_to_ask(
    questions: Iterable[Question], kept: Kept, retries: int = RETRIES
) -> tuple[list[Question], list[Question]]:
    """Divide the questions that are not answered: what to ask now, and what failed too often.

    A question that stands in the input several times is asked as often.
    """
    left = Counter(kept.answered)
    asked, given_up = [], []
    for question in questions:
        key = (question.id, question.text)
        failed = kept.failed.get(key, 0)
        if left[key]:
            left[key] -= 1
        elif failed > retries:  # the first time is counted, too
            given_up.append(question)
        else:
            asked.append(replace(question, attempt=failed + 1))
    return asked, given_up
