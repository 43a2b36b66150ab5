"""An LLM as judge: LlamaIndex's evaluators of faithfulness, relevancy and correctness.

Faithfulness asks whether the contexts in the prompt support the answer, relevancy whether answer
and contexts fit the question (1 or 0 each), correctness how good the answer is beside the right one
(1 to 5). A reply that is none of that is no score, and is left out of the mean.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.evaluation import (
    BaseEvaluator,
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    RelevancyEvaluator,
)

from rag_app.answering.fencing import Neutralizer
from rag_app.config.sections import LLMSection
from rag_app.errors import ConfigError, LLMError, LLMUnavailableError
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.results import Outcome, ResultsFile
from rag_app.llms import PackableLLM, build_llm

EVALUATORS = ("faithfulness", "relevancy", "correctness")

_LOG = logging.getLogger("rag_app")
_SCORE = re.compile(r"\b[1-5](?:\.\d+)?\b")
_YES_OR_NO = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)


class Judge:
    """Grades answers.

    Parameters
    ----------
    names
        Some of `EVALUATORS`.
    section
        The LLM that judges; None: the one that answered.

    Raises
    ------
    ConfigError
        If a name is not one of them, or the section has no LLM.
    """

    def __init__(self, names: Sequence[str], section: LLMSection | None = None) -> None:
        for name in names:
            if name not in EVALUATORS:
                raise ConfigError(
                    f"there is no evaluator {name!r}", f"use some of {', '.join(EVALUATORS)}"
                )
        self.names = tuple(dict.fromkeys(names))
        self._section = section
        self._llm = build_llm(section) if section else None

    @property
    def identity(self) -> str:
        """What tells its scores from another judge's."""
        # A key changes no grade, and has no place in what names a file.
        section = self._section.model_dump_json(exclude={"api_key"}) if self._section else ""
        return f"{self.names} {section}"

    def check(self, section: LLMSection, *, answers: bool) -> None:
        """Refuse a configuration whose answers cannot be graded, before anything is asked.

        Raises
        ------
        ConfigError
            If there are no answers, or no LLM to grade them with.
        """
        if not answers:
            raise ConfigError("a judge grades answers, and none are made", "add --answers")
        if self._llm is None and section.backend == "extractive":
            raise ConfigError(
                'llm.backend is "extractive", and a judge is a language model',
                "name one, e.g. --judge-llm backend=vllm-server",
            )

    def grade(
        self,
        questions: Sequence[EvalQuestion],
        results: ResultsFile,
        llm: PackableLLM | None,
        progress: Callable[[int, int], None],
    ) -> None:
        """Grade the answers that have no grade yet, and keep the grades with them.

        Parameters
        ----------
        llm
            The one that answered.

        Raises
        ------
        LLMError
            If the judge fails on all of them. What it fails on is graded by the next run.
        """
        judge = self._llm or llm
        if judge is None:
            return
        todo = [
            (question, outcome)
            for question in questions
            if (outcome := results.outcomes.get(question.key)) is not None
            and outcome.answer is not None
            and not outcome.judged
        ]
        asyncio.run(self._grade_all(judge, todo, results, progress))

    def close(self) -> None:
        """Close the judge's own LLM."""
        if self._llm:
            self._llm.close()

    async def _grade_all(
        self,
        llm: PackableLLM,
        todo: Sequence[tuple[EvalQuestion, Outcome]],
        results: ResultsFile,
        progress: Callable[[int, int], None],
    ) -> None:
        evaluators = {name: _evaluator(name, llm) for name in self.names}
        neutralize = Neutralizer(llm.special_tokens())  # documents are of unknown origin
        some = asyncio.Semaphore(self._section.concurrency if self._section else 16)
        done = 0
        failures: list[LLMError] = []

        async def grade(question: EvalQuestion, outcome: Outcome) -> None:
            nonlocal done
            try:
                async with some:
                    judged = {
                        name: await _score(name, evaluator, question, outcome, neutralize)
                        for name, evaluator in evaluators.items()
                        # Else there is nothing to compare with.
                        if name != "correctness" or question.answers
                    }
            except LLMUnavailableError:
                raise
            except LLMError as error:
                failures.append(error)
                return
            # At once, so that an interrupted run has not been graded in vain.
            results.add(replace(outcome, judged=judged))
            done += 1
            progress(done, len(todo))

        try:
            async with asyncio.TaskGroup() as tasks:
                for question, outcome in todo:
                    tasks.create_task(grade(question, outcome))
        except BaseExceptionGroup as failed:  # a group of tasks wraps even a single error
            raise failed.exceptions[0] from None
        if failures and not done:
            raise failures[0]
        if failures:
            _LOG.warning(
                "the judge failed on %d of %d answers, e.g.: %s",
                *(len(failures), len(todo), failures[0].message),
            )


def _evaluator(name: str, llm: PackableLLM) -> BaseEvaluator:
    if name == "faithfulness":
        return FaithfulnessEvaluator(llm=llm)
    if name == "relevancy":
        return RelevancyEvaluator(llm=llm)
    return CorrectnessEvaluator(llm=llm, parser_function=_parse_score)


async def _score(
    name: str,
    evaluator: BaseEvaluator,
    question: EvalQuestion,
    outcome: Outcome,
    neutralize: Neutralizer,
) -> float | None:
    asked: dict[str, Any] = {
        "query": neutralize(question.question),
        "response": neutralize(outcome.answer or ""),
    }
    if name == "correctness":
        reference = neutralize(" / ".join(question.answers or ()))
        return (await evaluator.aevaluate(**asked, reference=reference)).score
    # Over no text at all LlamaIndex does not ask the LLM: its reply is "Empty Response".
    contexts = [neutralize(context) for context in outcome.contexts or [""]]
    result = await evaluator.aevaluate(**asked, contexts=contexts)
    # LlamaIndex takes whatever has no "yes" in it for a no.
    return result.score if _YES_OR_NO.search(result.feedback or "") else None


def _parse_score(reply: str) -> tuple[float | None, str]:
    """Find the score; LlamaIndex's own parser fails on a reply of one line."""
    found = _SCORE.search(reply)
    return (float(found[0]) if found else None), reply
