"""What came of each question, and the file that keeps it: an interrupted run goes on from there."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rag_app.errors import InputError
from rag_app.json_lines import read_own_lines
from rag_app.schema import Record


@dataclass(frozen=True)
class Found(Record):
    """A retrieved node.

    Attributes
    ----------
    hit
        Whether it answers the question; False where that cannot be told.
    text
        Its beginning, for the first few.
    """

    id: str
    path: str
    score: float | None
    hit: bool
    text: str = ""


@dataclass
class Outcome(Record):
    """What came of one question.

    Attributes
    ----------
    key
        `EvalQuestion.key`.
    found
        Best first.
    gold
        Ids of all the nodes of the collection that are hits; None where that cannot be told.
    reach
        Characters to read of the ranked texts until they answer the question; None: never.
    kept, trimmed, dropped
        How many nodes the packer did this with.
    in_prompt
        Whether what was packed answers the question; None where that cannot be told.
    confidence
        That what was packed holds the answer; None: not judged.
    refused
        Whether it was too low to answer.
    contexts
        Texts in the prompt, if a judge will read them.
    answer
        None if none was asked for.
    cited
        For each document that the answer cites, whether it holds the answer.
    cached
        Share of the prompt's tokens that the LLM had in its prefix cache.
    ms
        Milliseconds by stage, for the questions that were timed.
    judged
        Scores by evaluator; None: the judge's reply was no score.
    """

    key: str
    found: list[Found] = field(default_factory=list)
    gold: list[str] | None = None
    reach: int | None = None
    kept: int = 0
    trimmed: int = 0
    dropped: int = 0
    in_prompt: bool | None = None
    confidence: float | None = None
    refused: bool | None = None
    contexts: list[str] = field(default_factory=list)
    answer: str | None = None
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cited: list[bool] = field(default_factory=list)
    cached: float | None = None
    ms: dict[str, float] = field(default_factory=dict)
    judged: dict[str, float | None] = field(default_factory=dict)

    @property
    def first_hit(self) -> int | None:
        """The rank of the first hit, from 1."""
        return next((rank for rank, each in enumerate(self.found, start=1) if each.hit), None)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Outcome":
        """Return what `to_dict` was made of."""
        known = {each.name for each in fields(cls)}
        # Another program's file, or another version's: it is not to be appended to.
        if not set(row) <= known or "key" not in row:
            raise ValueError("not an outcome")
        found = [Found(**each) for each in row.pop("found", [])]
        return cls(**row, found=found)


class ResultsFile:
    """Outcomes as JSON Lines, written as they come; a torn last line is cut off.

    Raises
    ------
    InputError
        If the file is there and holds something else, or cannot be written.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.outcomes: dict[str, Outcome] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if fresh:
                path.unlink(missing_ok=True)
            for outcome in read_own_lines(
                path,
                '{"key": ',
                Outcome.from_dict,
                what="results",
                remedy="move it away, or name another folder: --results",
            ):
                self.outcomes[outcome.key] = outcome
            # Opened after it was read: what was torn is cut off by then.
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"results cannot be kept in {path}: {error}", "name another folder: --results"
            ) from error

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; a later one of the same question replaces an earlier one."""
        self.outcomes[outcome.key] = outcome
        self._file.write(json.dumps(outcome.to_dict(), ensure_ascii=False) + "\n")
        self._file.flush()  # a killed run loses no more than the line that it was writing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
