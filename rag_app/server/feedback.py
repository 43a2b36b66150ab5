"""What people say of answers, kept as questions with known answers: `rag-app eval` reads the file.

A file of JSON Lines for each collection, in ``server.feedback_folder``. An answer's line is written
anew when somebody changes their mind.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode

from rag_app.server.errors import RequestError

MOST_LINES = 20_000


class FeedbackFile:
    """The questions of one collection; for any thread and process."""

    def __init__(self, folder: str, collection: str) -> None:
        self.path = Path(folder) / f"{collection}.jsonl"

    def all(self) -> list[dict[str, Any]]:
        """Return what was said, the oldest first."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]

    def put(self, line: dict[str, Any]) -> None:
        """Write what was said of an answer, in place of what was said of it before.

        Raises
        ------
        RequestError
            409 if the file is full.
        """
        with self._change() as lines:
            before = [each for each in lines if not _is(each, line["id"], line["said_by"])]
            if len(before) >= MOST_LINES:
                message = f"{MOST_LINES:,} answers were rated already: move the file away"
                raise RequestError(409, message, code="feedback_full")
            lines[:] = [*before, line]

    def remove(self, id_: str, said_by: str) -> None:
        """Forget what somebody said of an answer."""
        with self._change() as lines:
            lines[:] = [each for each in lines if not _is(each, id_, said_by)]

    @contextmanager
    def _change(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the lines to change; written as a whole, and by one at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not the file itself, which is replaced: a lock on the old one would hold nobody up.
        with open(f"{self.path}.lock", "a") as lock:  # noqa: PTH123 - beside the file
            flock(lock, LOCK_EX)
            lines = self.all()
            yield lines
            temporary = self.path.with_suffix(f".{os.getpid()}")
            with temporary.open("w", encoding="utf-8") as out:
                out.writelines(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(self.path)


def _is(line: Mapping[str, Any], id_: str, said_by: str) -> bool:
    return bool(line.get("id") == id_ and line.get("said_by") == said_by)


def as_question(
    id_: str,
    question: str,
    *,
    is_right: bool,
    answers: Sequence[str] | None,
    passages: Sequence[BaseNode],
    said_by: str,
    answer: str,
) -> dict[str, Any]:
    """Return the line of an answer, as `rag_app.evaluation.questions` reads it.

    Parameters
    ----------
    answers
        What would have been right; empty: that the documents do not answer it; None: not said.
    passages
        Those that a right answer cites: where it stands.
    answer
        What was rated. Kept for people to read, and not taken for a known answer: a text of several
        sentences is not to be found again word for word.
    """
    line: dict[str, Any] = {"id": id_, "question": question}
    if answers is not None:
        line["answers"] = list(answers)
    if is_right and passages:
        line["contexts"] = [str(getattr(node, "text", "")) for node in passages]
        line["file"] = str(passages[0].metadata.get("path", ""))
    return {**line, "rating": "right" if is_right else "wrong", "said_by": said_by, "said": answer}
