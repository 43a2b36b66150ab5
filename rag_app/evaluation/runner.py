"""Ask one configuration all questions: embed, search, pack, answer; keep each outcome as it comes.

A few questions, the same ones for all configurations, go one by one and piece by piece as a user's
would, and are timed: each is asked of all configurations before the next one is. The others go
together: one embedding batch, batches of the LLM.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import CompletionResponse
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from rag_app.answering.base import RagSynthesizer
from rag_app.answering.citations import cited_numbers
from rag_app.answering.confidence import Verdict
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.answering.packing import Packed, keep_all
from rag_app.answering.prompts import number_sources
from rag_app.embedding.base import Embedder
from rag_app.errors import LLMError, LLMUnavailableError, RagAppError, UserError
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.relevance import Relevance
from rag_app.evaluation.results import Found, Outcome, ResultsFile
from rag_app.evaluation.timing import StageSpans, Stopwatch, stages_traced
from rag_app.llms import PackableLLM, Reply
from rag_app.questions import BadLine

TOGETHER = 64
"""Questions answered in one batch: what an interrupted run has to answer again at most."""
WARM_UP = (1, 2, 3, 4, 6, 8, 12)
"""Half the words of the questions asked before any is timed: torch prepares for each length."""
SHOWN = 3
"""Of how many retrieved nodes the beginning of the text is kept, to be looked at."""
SHOWN_CHARACTERS = 300

Progress = Callable[[int, int], None]


# Compared by identity: `time_in_turn` looks for runners in lists.
@dataclass(eq=False)
class Runner:
    """Asks questions of an open collection.

    Attributes
    ----------
    retriever
        Returns nodes best first, at least `similarity_top_k` of them where there are as many.
    synthesizer
        What packs and answers; None: no answers, and the best `similarity_top_k` nodes count as
        packed.
    llm
        The synthesizer's; None: it has none.
    relevances
        What is a hit, by the question's key.
    gold
        `find_gold`'s node ids, by the question's key.
    verdict_of
        Of a question and its contexts, where no synthesizer judges; None: nobody does.
    keeps_contexts
        Whether outcomes have the texts in the prompt.
    bad
        Questions that could not be asked, e.g. because they are longer than the LLM's window.
    """

    embedder: Embedder
    retriever: BaseRetriever
    similarity_top_k: int
    relevances: Mapping[str, Relevance]
    gold: Mapping[str, list[str]]
    synthesizer: RagSynthesizer | None = None
    llm: PackableLLM | None = None
    verdict_of: Callable[[str, Sequence[NodeWithScore]], Verdict | None] | None = None
    keeps_contexts: bool = False
    bad: list[BadLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Two variants may send the same prompts: one must not find the other one's.
        self._asking = self.llm.forget_prefixes() if self.llm else {}

    def run(
        self, questions: Sequence[EvalQuestion], results: ResultsFile, progress: Progress
    ) -> None:
        """Ask, together, what `results` does not have yet."""
        bad = {line.line for line in self.bad}
        todo = [
            each
            for each in unique(questions)
            # Refused when it was timed: it would be again.
            if each.key not in results.outcomes and each.line not in bad
        ]
        done = len(questions) - len(todo)
        progress(done, len(questions))
        if not todo:
            return
        vectors = self.embedder.embed_queries([question.question for question in todo])
        pairs = list(zip(todo, vectors, strict=True))
        for start in range(0, len(pairs), TOGETHER):
            for outcome in self._ask_together(pairs[start : start + TOGETHER]):
                results.add(outcome)
                done += 1
                progress(done, len(questions))

    def warm_up(self) -> None:
        """Let what is loaded at first use be loaded before anything is timed."""
        for words in WARM_UP:
            self.retriever.retrieve("warm up " * words)
        if self.llm:
            self.llm.complete("warm up", **self._asking)

    def time(self, question: EvalQuestion, spans: StageSpans, results: ResultsFile) -> None:
        """Ask a question alone, and keep how long each stage took."""
        try:
            results.add(self._ask_alone(question, spans))
        except LLMUnavailableError:
            raise
        except (UserError, LLMError) as error:  # this question's own: too long for the window
            self.bad.append(BadLine(question.line, error.message))

    def _ask_alone(self, question: EvalQuestion, spans: StageSpans) -> Outcome:
        watch = Stopwatch()
        # Counters of all questions so far: the difference is this one's.
        cache = self.llm.prefix_cache() if self.llm else (0, 0)
        spans.take()  # drops what came before, the warm-up's
        began = time.perf_counter()
        nodes = self.retriever.retrieve(QueryBundle(question.question))
        retrieved = time.perf_counter() - began
        inside = spans.take()
        # No span says "search": it is what remains of the retrieval.
        watch.add("search", retrieved - sum(inside.values()))
        for stage, seconds in inside.items():
            watch.add(stage, seconds)
        with watch.stage("pack"):
            packed = self._pack(question, nodes)
        outcome = self._outcome(question, nodes, packed)
        if self.synthesizer:
            self._take_answer(outcome, question, packed, self._stream(question, packed, watch))
        # The first token is one of all tokens, and would count twice.
        watch.ms["total"] = sum(ms for stage, ms in watch.ms.items() if stage != "first_token")
        outcome.ms = watch.ms
        if self.llm:
            after = self.llm.prefix_cache()
            looked_up = after[0] - cache[0]
            outcome.cached = (after[1] - cache[1]) / looked_up if looked_up else None
        return outcome

    def _ask_together(self, some: Sequence[tuple[EvalQuestion, list[float]]]) -> Iterator[Outcome]:
        ready: list[tuple[EvalQuestion, Packed, Outcome]] = []
        for question, vector in some:
            try:
                nodes = self.retriever.retrieve(QueryBundle(question.question, embedding=vector))
                packed = self._pack(question, nodes)
            except LLMUnavailableError:
                raise
            except (UserError, LLMError) as error:
                self.bad.append(BadLine(question.line, error.message))
                continue
            ready.append((question, packed, self._outcome(question, nodes, packed)))
        if self.synthesizer is None:
            yield from (outcome for _, _, outcome in ready)
            return
        for index, reply in self._answer_each(
            [question.question for question, _, _ in ready], [pack for _, pack, _ in ready]
        ):
            question, packed, outcome = ready[index]
            if isinstance(reply, RagAppError):
                self.bad.append(BadLine(question.line, reply.message))
                continue
            self._take_answer(outcome, question, packed, reply)
            yield outcome

    def _pack(self, question: EvalQuestion, nodes: Sequence[NodeWithScore]) -> Packed:
        # More was retrieved than is packed, for the figures that look deeper.
        best = nodes[: self.similarity_top_k]
        if self.synthesizer:
            return self.synthesizer.pack(question.question, best)
        packed = keep_all(best)
        if self.verdict_of is None:
            return packed
        return replace(packed, verdict=self.verdict_of(question.question, packed.nodes))

    def _stream(
        self, question: EvalQuestion, packed: Packed, watch: Stopwatch
    ) -> CompletionResponse:
        """Answer piece by piece, and note when the first and the last one came."""
        reply = CompletionResponse(text=NOTHING_RELEVANT)
        began = time.perf_counter()
        if self.llm is None:
            ((_, answered),) = self._answer_each([question.question], [packed])
            if isinstance(answered, RagAppError):
                raise answered
            reply = answered
        elif not packed.is_refused:
            with closing(self.llm.stream_complete(packed.prompt, **self._asking)) as pieces:
                for reply in pieces:
                    # A server's first piece may be empty.
                    if "first_token" not in watch.ms and reply.text:
                        watch.add("first_token", time.perf_counter() - began)
        watch.add("all_tokens", time.perf_counter() - began)
        return reply

    def _answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Iterator[tuple[int, Reply]]:
        assert self.synthesizer is not None  # noqa: S101 - checked by the callers
        if self.llm is None:
            yield from self.synthesizer.answer_each(questions, packed)
            return
        asked = [index for index, pack in enumerate(packed) if not pack.is_refused]
        for index in sorted(set(range(len(questions))) - set(asked)):
            yield index, CompletionResponse(text=NOTHING_RELEVANT)
        prompts = [packed[index].prompt for index in asked]
        # An interrupted run must not leave its requests to the model.
        with closing(self.llm.generate_each(prompts, **self._asking)) as replies:
            for position, reply in replies:
                yield asked[position], reply

    def _outcome(
        self, question: EvalQuestion, nodes: Sequence[NodeWithScore], packed: Packed
    ) -> Outcome:
        relevance = self.relevances.get(question.key)
        fates = [entry.fate for entry in packed.ledger]
        outcome = Outcome(
            key=question.key,
            kept=fates.count("kept"),
            trimmed=fates.count("trimmed"),
            dropped=fates.count("dropped"),
            prompt_tokens=packed.prompt_tokens,
            confidence=packed.verdict.confidence if packed.verdict else None,
            refused=packed.is_refused if packed.verdict else None,
        )
        texts = [(_path(node), _text(node)) for node in nodes]
        for rank, (node, (path, text)) in enumerate(zip(nodes, texts, strict=True)):
            hit = relevance is not None and relevance.is_hit(path, text)
            shown = text[:SHOWN_CHARACTERS] if rank < SHOWN else ""
            outcome.found.append(Found(node.node.node_id, path, node.score, hit, shown))
        if self.keeps_contexts:
            outcome.contexts = [_text(node) for node in packed.nodes]
        if relevance is not None:
            outcome.gold = list(self.gold[question.key])
            outcome.reach = relevance.reach(texts)
            outcome.in_prompt = any(
                relevance.is_hit(_path(node), _text(node)) for node in packed.nodes
            )
        return outcome

    def _take_answer(
        self,
        outcome: Outcome,
        question: EvalQuestion,
        packed: Packed,
        reply: CompletionResponse,
    ) -> None:
        outcome.answer = reply.text
        outcome.finish_reason = str(reply.additional_kwargs.get("finish_reason") or "")
        outcome.completion_tokens = int(reply.additional_kwargs.get("completion_tokens") or 0)
        relevance = self.relevances.get(question.key)
        if relevance is None or not question.answers:
            return
        sources = number_sources(packed.nodes)
        for number in cited_numbers(reply.text):
            texts = [source.text for source in sources if source.number == number]
            outcome.cited.append(any(relevance.holds_answer(text) for text in texts))


def time_in_turn(
    runners: Sequence[tuple[Runner, ResultsFile]],
    questions: Sequence[EvalQuestion],
    progress: Progress,
) -> None:
    """Time questions that were not timed yet, each of all runners before the next one.

    Another runner begins with each question: neither a machine that grows slower nor a cache that
    the first one warms for the others favours one of them.
    """
    todo = [
        (question, [each for each in runners if _is_untimed(question, each[1])])
        for question in unique(questions)
    ]
    # Those whose times are all there load nothing.
    asked = [runner for runner in runners if any(runner in of for _, of in todo)]
    for runner, _ in asked:
        runner.warm_up()
    with stages_traced() as spans:
        for number, (question, of) in enumerate(todo):
            first = number % max(len(of), 1)
            for runner, results in [*of[first:], *of[:first]]:
                runner.time(question, spans, results)
            progress(number + 1, len(todo))


def unique(questions: Sequence[EvalQuestion]) -> list[EvalQuestion]:
    """Leave out questions that are there already."""
    return list({question.key: question for question in questions}.values())


def _is_untimed(question: EvalQuestion, results: ResultsFile) -> bool:
    outcome = results.outcomes.get(question.key)
    return outcome is None or not outcome.ms


def _path(node: NodeWithScore) -> str:
    return str(node.metadata.get("path", ""))


def _text(node: NodeWithScore) -> str:
    return node.node.get_content(MetadataMode.NONE)
