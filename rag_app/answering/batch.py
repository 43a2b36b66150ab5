"""Many questions at once: one embedding batch, one Milvus search, one batch of the LLM.

Answers come as they are finished, each with what it rests on and what it cost. A question that
cannot be asked becomes a `BadLine`, one that the LLM fails on a `Failure`; neither stops the rest.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.llms import CompletionResponse

from rag_app.answering.base import RagSynthesizer
from rag_app.answering.packing import Packed
from rag_app.answering.prompts import number_sources
from rag_app.errors import LLMError, LLMUnavailableError, RagAppError, UserError
from rag_app.questions import BadLine, Question
from rag_app.recipe import Remade
from rag_app.retrieval.retriever import Retriever
from rag_app.schema import Record, Source


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
    reasoning
        The model's, where a server sends it.
    confidence
        The probability that the sources hold the answer; None where nobody judged.
    answered
        False: the answer says that the documents have none.
    """

    line: int
    id: str | None
    question: str
    answer: str
    sources: tuple[Source, ...]
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    reasoning: str = ""
    confidence: float | None = None
    answered: bool = True


@dataclass(frozen=True)
class Failure(Record):
    """A question that the LLM could not answer, and why.

    Attributes
    ----------
    line, id, question
        As in the input.
    attempt
        How often it has been asked now.
    """

    line: int
    id: str | None
    question: str
    error: str
    attempt: int


@dataclass(frozen=True)
class BatchSummary(Record):
    """What a batch did.

    Attributes
    ----------
    answered, failed, done_before
        Questions answered now, asked in vain now, and found answered in the output.
    bad_lines
        What could not be answered.
    seconds
        From the first question's embedding to the last answer.
    cache_queries, cache_hits
        Prompt tokens that the engine looked up in its prefix cache meanwhile, and found there.
    """

    answered: int = 0
    failed: int = 0
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
        seconds = self.seconds or 1.0  # where nothing was asked the rates are 0
        return {
            **super().to_dict(),
            "questions_per_second": self.answered / seconds,
            "tokens_per_second": (self.prompt_tokens + self.completion_tokens) / seconds,
            "cache_hit_rate": self.cache_hit_rate,
        }


@dataclass
class Batch(Remade):
    """Answers questions over an open collection. `rag_app.build.build_batch` makes one.

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

    def changed_since(self) -> dict[str, Any]:
        """Return what can be set on it."""
        return {"group": self.group}

    def run(
        self, questions: Sequence[Question]
    ) -> Generator[Answer | Failure | BadLine, None, None]:
        """Answer questions, each as soon as it is finished.

        Closing the iterator ends the LLM's requests that are under way.

        Raises
        ------
        ServiceError
            If Milvus fails, or the LLM would fail on any question; what was yielded before stays
            answered.
        """
        began = time.monotonic()
        cache_before = self.synthesizer.prefix_cache()
        summary = BatchSummary()
        packed: list[tuple[Question, Packed]] = []
        for question, found in self._pack(questions):
            if isinstance(found, BadLine):
                summary = replace(summary, bad_lines=(*summary.bad_lines, found))
                yield found
            elif isinstance(found, Failure):
                summary = replace(summary, failed=summary.failed + 1)
                yield found
            else:
                packed.append((question, found))
        if self.group:
            packed.sort(key=lambda item: item[1].prompt)
        texts = [question.text for question, _ in packed]
        with closing(self.synthesizer.answer_each(texts, [pack for _, pack in packed])) as replies:
            for index, reply in replies:
                question, pack = packed[index]
                if isinstance(reply, RagAppError):
                    summary = replace(summary, failed=summary.failed + 1)
                    yield _failure(question, reply)
                    continue
                answer = _answer(question, pack, reply)
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

    def _pack(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[Question, Packed | Failure | BadLine]]:
        if not questions:
            return
        found = self.retriever.retrieve_each([question.text for question in questions])
        for question, nodes in zip(questions, found, strict=True):
            try:
                yield question, self.synthesizer.pack(question.text, nodes)
            except UserError as error:  # this question's own: too long for the window
                yield question, BadLine(question.line, error.message)
            except LLMUnavailableError:
                raise
            except LLMError as error:  # it does not count this prompt's tokens
                yield question, _failure(question, error)


def _answer(question: Question, pack: Packed, reply: CompletionResponse) -> Answer:
    return Answer(
        line=question.line,
        id=question.id,
        question=question.text,
        answer=reply.text,
        sources=tuple(number_sources(pack.nodes)),
        prompt_tokens=pack.prompt_tokens,
        completion_tokens=int(reply.additional_kwargs.get("completion_tokens", 0)),
        finish_reason=str(reply.additional_kwargs.get("finish_reason", "")),
        reasoning=str(reply.additional_kwargs.get("reasoning", "")),
        confidence=pack.verdict.confidence if pack.verdict else None,
        answered=reply.additional_kwargs.get("answered") is not False,
    )


def _failure(question: Question, error: RagAppError) -> Failure:
    return Failure(question.line, question.id, question.text, error.message, question.attempt)
