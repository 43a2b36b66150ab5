"""Many questions at once: one embedding batch, one Milvus search, one batch of the LLM.

Answers come as they are finished, each with what it rests on and what it cost. A question that
cannot be asked becomes a `BadLine` and does not stop the rest.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rag_app.answering.packing import Packed
from rag_app.answering.prompts import number_sources
from rag_app.answering.synthesizer import RagSynthesizer
from rag_app.errors import InputError, UserError
from rag_app.retrieval.retriever import Retriever
from rag_app.schema import Record, Source

_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}


@dataclass(frozen=True)
class Question:
    """A line of the input.

    Attributes
    ----------
    line
        Its number, from 1.
    id
        As the input gives it, or None.
    """

    line: int
    id: str | None
    text: str


@dataclass(frozen=True)
class BadLine(Record):
    """A line that cannot be answered, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Answer(Record):
    """A question's answer.

    Attributes
    ----------
    line, id, question
        As in the input.
    sources
        In prompt order: best last.
    prompt_tokens, completion_tokens
        In the LLM's own tokens; 0 without an LLM.
    finish_reason
        "length" if the answer was cut at ``llm.max_tokens``.
    """

    line: int
    id: str | None
    question: str
    answer: str
    sources: tuple[Source, ...]
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


@dataclass(frozen=True)
class BatchSummary(Record):
    """What a batch did.

    Attributes
    ----------
    answered, done_before
        Questions answered now, and found answered in the output.
    bad_lines
        What could not be answered.
    seconds
        From the first question's embedding to the last answer.
    cache_queries, cache_hits
        Prompt tokens that the engine looked up in its prefix cache meanwhile, and found there.
    """

    answered: int = 0
    done_before: int = 0
    bad_lines: tuple[BadLine, ...] = ()
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_queries: int = 0
    cache_hits: int = 0

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of prompt tokens that the prefix cache had; None if none was looked up."""
        return self.cache_hits / self.cache_queries if self.cache_queries else None

    def to_dict(self) -> dict[str, Any]:
        """Return the record and its rates as plain dictionaries and lists."""
        seconds = self.seconds or 1.0
        return {
            **super().to_dict(),
            "questions_per_second": self.answered / seconds,
            "tokens_per_second": (self.prompt_tokens + self.completion_tokens) / seconds,
            "cache_hit_rate": self.cache_hit_rate,
        }


@dataclass
class Batch:
    """Answers questions over an open collection. `rag_app.app.build_batch` makes one.

    Attributes
    ----------
    group
        Ask prompts that begin alike one after the other, so that the prefix cache can serve them.
    summary
        Of the last `run`, up to date when that has ended.
    """

    retriever: Retriever
    synthesizer: RagSynthesizer
    group: bool = True
    summary: BatchSummary = field(default_factory=BatchSummary)

    def run(self, questions: Sequence[Question]) -> Iterator[Answer | BadLine]:
        """Answer questions, each as soon as it is finished.

        Raises
        ------
        ServiceError
            If Milvus or the LLM fails; what was yielded before stays answered.
        """
        began = time.monotonic()
        cache_before = self.synthesizer.prefix_cache()
        summary = BatchSummary()
        packed: list[tuple[Question, Packed]] = []
        for question, found in self._pack(questions):
            if isinstance(found, BadLine):
                summary = replace(summary, bad_lines=(*summary.bad_lines, found))
                yield found
            else:
                packed.append((question, found))
        if self.group:
            packed.sort(key=lambda item: item[1].prompt)
        texts = [question.text for question, _ in packed]
        for index, reply in self.synthesizer.answer_each(texts, [pack for _, pack in packed]):
            question, pack = packed[index]
            answer = Answer(
                line=question.line,
                id=question.id,
                question=question.text,
                answer=reply.text,
                sources=tuple(number_sources(pack.nodes)),
                prompt_tokens=pack.prompt_tokens,
                completion_tokens=int(reply.additional_kwargs.get("completion_tokens", 0)),
                finish_reason=str(reply.additional_kwargs.get("finish_reason", "")),
            )
            summary = replace(
                summary,
                answered=summary.answered + 1,
                prompt_tokens=summary.prompt_tokens + answer.prompt_tokens,
                completion_tokens=summary.completion_tokens + answer.completion_tokens,
            )
            yield answer
        cache_after = self.synthesizer.prefix_cache()
        self.summary = replace(
            summary,
            seconds=time.monotonic() - began,
            cache_queries=cache_after[0] - cache_before[0],
            cache_hits=cache_after[1] - cache_before[1],
        )

    def _pack(self, questions: Sequence[Question]) -> Iterator[tuple[Question, Packed | BadLine]]:
        if not questions:
            return
        found = self.retriever.retrieve_each([question.text for question in questions])
        for question, nodes in zip(questions, found, strict=True):
            try:
                yield question, self.synthesizer.pack(question.text, nodes)
            except UserError as error:  # this question's own: too long for the window
                yield question, BadLine(question.line, error.message)


def read_questions(lines: Iterable[str], name: str) -> Iterator[Question | BadLine]:
    """Read JSON Lines (``{"question": …, "id": …}`` or a text), or a question a line.

    Parameters
    ----------
    name
        Of the file. If it does not end in ".jsonl" or the like, the first line that is not empty
        decides: JSON Lines begin with "{".
    """
    is_json = True if Path(name).suffix in _JSON_SUFFIXES else None
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("\ufeff")
        if not text:
            continue
        if is_json is None:
            is_json = text.startswith("{")
        if not is_json:
            yield Question(number, None, text)
            continue
        try:
            yield _from_json(number, text)
        except ValueError as error:
            yield BadLine(number, str(error))


def _from_json(number: int, text: str) -> Question:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(found, str):
        found = {"question": found}
    question = found.get("question") if isinstance(found, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise ValueError('there is no text under "question"')
    id_ = found.get("id")
    return Question(number, None if id_ is None else str(id_), question.strip())


def answered_before(output: Path) -> Counter[tuple[str | None, str]]:
    """Count the questions that a file of answers has, by id and text; cut off a torn last line.

    Raises
    ------
    InputError
        If the file is something else than answers: it is not touched.
    """
    done: Counter[tuple[str | None, str]] = Counter()
    if not output.exists():
        return done
    whole = 0
    with output.open("rb") as file:
        for line in file:
            found: Any = None
            with suppress(ValueError):
                found = json.loads(line)
            if not line.endswith(b"\n") and whole + len(line) == output.stat().st_size:
                break  # killed while it was being written
            if not isinstance(found, dict) or "question" not in found or "answer" not in found:
                raise InputError(
                    f"{output} is there already, and is no file of answers",
                    "name another one after -o",
                )
            done[found.get("id"), found["question"]] += 1
            whole += len(line)
    if whole < output.stat().st_size:
        with output.open("r+b") as file:
            file.truncate(whole)
    return done


def still_to_ask(
    questions: Iterable[Question], done: Counter[tuple[str | None, str]]
) -> list[Question]:
    """Leave out the questions that were answered before, each as often as it was."""
    left = Counter(done)
    asked = []
    for question in questions:
        key = (question.id, question.text)
        if left[key]:
            left[key] -= 1
        else:
            asked.append(question)
    return asked
