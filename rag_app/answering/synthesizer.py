"""Retrieved nodes → an answer: pack, render the prompt, ask once. LlamaIndex response synthesizers.

One question is one LLM call: no refine loops, and no context is cut without the ledger saying so.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

from llama_index.core.llms import (
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MockLLM,
)
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_app.answering.base import RagSynthesizer
from rag_app.answering.confidence import Judge
from rag_app.answering.extractive import NOTHING_RELEVANT, Extractor
from rag_app.answering.fencing import Neutralizer
from rag_app.answering.llamaindex_prompts import TEXT_QA, Template, as_llamaindex, from_llamaindex
from rag_app.answering.marking import without_unsupported
from rag_app.answering.packing import ORDERS, Packed, keep_all
from rag_app.answering.packing import pack as pack_nodes
from rag_app.answering.prompts import number_sources
from rag_app.answering.support import SupportChecker
from rag_app.llms import PackableLLM, Reply
from rag_app.llms.replies import empty_answer
from rag_app.runner import Runner
from rag_app.schema import Source

AGAIN = "Say only what the passages say, in their words, and cite the passage of each sentence."
"""Put before the prompt where an answer had sentences that no passage bears out."""


class PromptSynthesizer(RagSynthesizer):
    """Renders the prompt template over what fits the window, and asks the LLM.

    Parameters
    ----------
    sampling
        Keyword arguments of each call of the LLM, e.g. ``max_tokens``, which packing heeds.
    instructions
        Put before the rendered prompt.
    checker
        Holds each sentence against what it cites; None: nobody does.
    strict
        Ask once more where a sentence is not supported, and leave out those that still are not; a
        stream then comes when all of it is there.
    """

    def __init__(
        self,
        llm: PackableLLM,
        template: Template,
        *,
        streaming: bool,
        order: str = "best_last",
        sampling: Mapping[str, Any] | None = None,
        instructions: str = "",
        runner: Runner | None = None,
        checker: SupportChecker | None = None,
        strict: bool = False,
        judge: Judge | None = None,
    ) -> None:
        super().__init__(llm, streaming=streaming, runner=runner, judge=judge)
        self._checker = checker
        self._strict = strict and checker is not None
        self._instructions = instructions
        self._sampling = dict(sampling or {})
        self._order = ORDERS[order]
        self._template = template
        # Beside `_llm`, which has LlamaIndex's type, and becomes a copy when callbacks are set.
        self._packable = llm

    # Not made in the constructor: an engine has to start before it tells its tokens.
    @cached_property
    def _neutralize(self) -> Neutralizer:
        return Neutralizer(self._packable.special_tokens())

    def _pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
        """Keep what fits the LLM's window, less the answer."""
        metadata = self._packable.metadata
        return pack_nodes(
            nodes,
            lambda ordered: self._render(number_sources(ordered), question),
            self._packable.count_tokens,
            self._packable.count_text_tokens,
            metadata.context_window - self._sampling.get("max_tokens", metadata.num_output),
            self._order,
        )

    def _render(self, sources: Sequence[Source], question: str) -> str:
        prompt = self._template.render(sources, question, self._neutralize)
        if not self._instructions:
            return prompt
        return f"{self._neutralize(self._instructions)}\n\n{prompt}"

    def _get_prompts(self) -> PromptDictType:
        return {TEXT_QA: as_llamaindex(self._template)}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        if prompts:
            self._template = from_llamaindex(prompts)

    def answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Generator[tuple[int, Reply], None, None]:
        """Send all prompts to the LLM at once."""
        # Without contexts that answer it a model would answer from what it remembers.
        asked = [index for index, pack in enumerate(packed) if not pack.is_refused]
        for index in sorted(set(range(len(questions))) - set(asked)):
            yield index, refusal()
        prompts = [packed[index].prompt for index in asked]
        with closing(self._packable.generate_each(prompts, **self._sampling)) as replies:
            for position, reply in replies:
                if isinstance(reply, CompletionResponse) and not reply.text.strip():
                    yield asked[position], empty_answer(reply)
                else:
                    yield asked[position], reply

    def prefix_cache(self) -> tuple[int, int]:
        """Ask the LLM for its counters."""
        return self._packable.prefix_cache()

    def _answer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        if packed.is_refused:
            return refusal()
        reply = self._llm.complete(packed.prompt, **self._sampling)
        return self._supported(query.query_str, packed, reply) if self._strict else reply

    def _supported(
        self, question: str, packed: Packed, reply: CompletionResponse
    ) -> CompletionResponse:
        """Return what is supported of an answer, or of another one to the same prompt."""
        assert self._checker is not None  # noqa: S101 - of `_strict`
        sources = number_sources(packed.nodes)
        support = self._checker.check(reply.text, sources, question)
        room = packed.budget - packed.prompt_tokens
        if not all(each.is_supported for each in support) and (
            self._packable.count_text_tokens(AGAIN) < room
        ):
            reply = self._llm.complete(f"{AGAIN}\n\n{packed.prompt}", **self._sampling)
            support = self._checker.check(reply.text, sources, question)
        text = without_unsupported(reply.text, support)
        # An empty answer of the model's own is told as such.
        if not reply.text.strip():
            return reply
        if not text:
            return refusal()
        reply.text = text
        return reply

    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        if packed.is_refused:
            return _pieces(refusal())
        if self._strict:
            return _pieces(self._answer(query, packed))
        return self._llm.stream_complete(packed.prompt, **self._sampling)

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        if packed.is_refused:
            return refusal()
        if self._strict:
            return await self._runner.run(self._answer, query, packed)
        return await self._llm.acomplete(packed.prompt, **self._sampling)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        if packed.is_refused:
            return _apieces(refusal())
        if self._strict:
            return _apieces(await self._aanswer(query, packed))
        return await self._llm.astream_complete(packed.prompt, **self._sampling)


class ExtractiveSynthesizer(RagSynthesizer):
    """Quotes the contexts, without an LLM; the packer keeps all of them, best last."""

    def __init__(
        self,
        extractor: Extractor,
        *,
        streaming: bool,
        runner: Runner | None = None,
        judge: Judge | None = None,
    ) -> None:
        # The LLM is never asked.
        super().__init__(MockLLM(), streaming=streaming, runner=runner, judge=judge)
        self._extractor = extractor

    def _pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
        """Keep all."""
        return keep_all(nodes)

    def answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Generator[tuple[int, Reply], None, None]:
        """Quote for one question after the other."""
        for index, (question, found) in enumerate(zip(questions, packed, strict=True)):
            yield index, self._answer(QueryBundle(question), found)

    def prefix_cache(self) -> tuple[int, int]:
        """There is no LLM, and so no cache."""
        return 0, 0

    def _answer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        if packed.is_refused:
            return refusal()
        sources = number_sources(packed.nodes)
        text = self._extractor.answer(query.query_str, sources, query.embedding)
        return refusal() if text == NOTHING_RELEVANT else CompletionResponse(text=text)

    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        return _pieces(self._answer(query, packed))

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        return await self._runner.run(self._answer, query, packed)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        return _apieces(await self._aanswer(query, packed))


def refusal() -> CompletionResponse:
    """Return the answer to a question that the documents do not answer."""
    return CompletionResponse(text=NOTHING_RELEVANT, additional_kwargs={"answered": False})


def _pieces(reply: CompletionResponse) -> CompletionResponseGen:
    for line in reply.text.splitlines(keepends=True):
        yield CompletionResponse(
            text=line, delta=line, additional_kwargs=dict(reply.additional_kwargs)
        )


async def _apieces(reply: CompletionResponse) -> CompletionResponseAsyncGen:
    for piece in _pieces(reply):
        yield piece
