"""Questions with known answers: JSON Lines or CSV in, checked records out.

A line has ``question`` and any of: ``id``; ``answers`` (texts; an empty list: the documents do not
answer it, as ``"answerable": false`` says, too); ``file`` (the document that does); ``gold`` (a map
of file to keywords, any of which marks the right place); ``paragraph`` or ``contexts`` (the text
that the answer stands in).
"""

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.errors import InputError
from rag_app.questions import BadLine


@dataclass(frozen=True)
class EvalQuestion:
    """A question, and what is known about its answer.

    Attributes
    ----------
    line
        Its number in the file, from 1.
    answers
        Texts that are right; empty: the documents do not answer it; None: not known.
    file
        Path, or the end of one, of the document that answers it; empty: not known.
    gold
        Keywords by file.
    contexts
        Passages that the answer stands in.
    """

    line: int
    id: str
    question: str
    answers: tuple[str, ...] | None = None
    file: str = ""
    gold: Mapping[str, tuple[str, ...]] | None = None
    contexts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A digest of all but line and id: equal means the same question."""
        told = [self.question, self.answers, self.file, self.gold, self.contexts]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def is_unanswerable(self) -> bool:
        """Whether the documents are said not to answer it."""
        return self.answers == ()

    @property
    def has_evidence(self) -> bool:
        """Whether it can be told if a node answers it."""
        return not self.is_unanswerable and bool(
            self.answers or self.file or self.gold or self.contexts
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The documents that answer it, as far as known."""
        return tuple(self.gold) if self.gold else (self.file,) if self.file else ()


def read_questions(path: Path) -> tuple[list[EvalQuestion], list[BadLine]]:
    """Read a file of questions.

    Parameters
    ----------
    path
        ``.csv`` (with a line of column names; lists and maps as JSON in their cell), else JSON
        Lines.

    Returns
    -------
    tuple
        The questions, and the lines that are none with the reason.

    Raises
    ------
    InputError
        If the file cannot be read, or has no question in it.
    """
    try:
        # Without the mark that spreadsheets begin a CSV with.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "name a UTF-8 file") from error
    rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
    questions: list[EvalQuestion] = []
    bad: list[BadLine] = []
    for line, row in rows:
        try:
            questions.append(_question(line, row() if callable(row) else row))
        except ValueError as error:
            bad.append(BadLine(line, str(error)))
    if not questions:
        why = f": line {bad[0].line}: {bad[0].reason}" if bad else ""
        raise InputError(
            f"there is no question in {path}{why}",
            'write a line for each, e.g. {"question": "…", "answers": ["…"], "file": "a.md"}',
        )
    return questions, bad


def sample(questions: Sequence[EvalQuestion], number: int | None, seed: int) -> list[EvalQuestion]:
    """Choose some at random, in the file's order; the same seed chooses the same."""
    if number is None or number >= len(questions):
        return list(questions)
    chosen = random.Random(seed).sample(range(len(questions)), number)  # noqa: S311 - no secret
    return [questions[index] for index in sorted(chosen)]


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # JSON has U+2028 as it is
        if line.strip():
            # Parsed by the caller, for whom a bad line is one line's error.
            yield number, lambda line=line: _parsed(line)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _csv_rows(text: str) -> Iterator[tuple[int, Any]]:
    # As it is: csv itself tells line ends from those within a cell.
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "question" not in (reader.fieldnames or ()):
        raise InputError(
            f"the CSV's first line names no column 'question', but {reader.fieldnames}",
            "name the columns: question,answers,file,gold,paragraph,contexts",
        )
    for row in reader:
        # Cells beyond the columns come under None; an empty one is as good as none.
        cells = {name: _cell(value) for name, value in row.items() if name and value}
        if cells:
            yield reader.line_num, cells


def _cell(value: str) -> Any:
    """Read a list or a map; everything else is a text."""
    if value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _question(line: int, row: Any) -> EvalQuestion:
    if not isinstance(row, dict):
        raise ValueError('not an object like {"question": "…"}')
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError('there is no text under "question"')
    answers = row.get("answers")
    answerable = row.get("answerable")
    if answerable not in (None, True, False, "true", "false", ""):
        raise ValueError(f'"answerable" is {answerable!r}, neither true nor false')
    if answerable in (False, "false"):
        if answers:
            raise ValueError('"answerable" is false, and there are "answers"')
        answers, row = [], {**row, "answers": []}
    file = row.get("file") or ""
    if not isinstance(file, str):
        raise ValueError(f'"file" is {file!r}, not a text')
    paragraph = row.get("paragraph")
    passages = _texts(row, "contexts") + (_texts(row, "paragraph") if paragraph else ())
    return EvalQuestion(
        line=line,
        id=str(line if row.get("id") is None else row["id"]),
        question=question.strip(),
        answers=None if answers is None else _texts(row, "answers"),
        file=file,
        gold=_gold(row),
        contexts=tuple(passage for passage in passages if passage.strip()),
    )


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = row.get(name)
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f'"{name}" is {value!r}, not a list of texts')
    if not all(text.strip() for text in found) and name == "answers":
        raise ValueError('"answers" has an empty text; write [] if the documents do not answer it')
    return tuple(found)


def _gold(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]] | None:
    gold = row.get("gold")
    if not gold:
        return None
    if not isinstance(gold, dict):
        raise ValueError(f'"gold" is {gold!r}, not a map of file to keywords')
    return {file: _texts(gold, file) for file in gold}
