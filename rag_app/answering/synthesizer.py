"""Retrieved nodes → an answer: pack, render the prompt, ask once. LlamaIndex response synthesizers.

One question is one LLM call: no refine loops, and no context is cut without the ledger saying so.
"""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import cached_property
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
from llama_index.core.llms import (
    LLM,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MockLLM,
)
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType, TextNode

from rag_app.answering.extractive import NOTHING_RELEVANT, Extractor
from rag_app.answering.fencing import Neutralizer
from rag_app.answering.packing import ORDERS, Packed, keep_all
from rag_app.answering.packing import pack as pack_nodes
from rag_app.answering.prompts import PromptTemplate, number_sources
from rag_app.errors import InputError
from rag_app.llms import PackableLLM, Reply
from rag_app.llms.replies import empty_answer
from rag_app.questions import check_question
from rag_app.runner import Runner
from rag_app.schema import Source


class RagSynthesizer(BaseSynthesizer):
    """Base of the two below.

    The `Response` has the contexts in prompt order (``prompt.order``) as `source_nodes`, and in its
    metadata ``sources`` (list of `Source`, numbered as cited), ``ledger`` (list of `LedgerEntry`),
    ``prompt_tokens`` and ``budget`` (int, 0 without an LLM), and of a stream when that has ended
    ``reasoning`` (the model's, where a server sends it), ``finish_reason`` ("stop", "length"; empty
    without an LLM) and ``completion_tokens`` (None where nobody counted).

    Parameters
    ----------
    runner
        Where blocking steps of asynchronous questions run; None: a runner of its own.
    """

    def __init__(self, llm: LLM, *, streaming: bool, runner: Runner | None = None) -> None:
        self._runner = runner or Runner()
        # The helpers are LlamaIndex's own packing, which is not used; made here, they neither start
        # the engine for its metadata nor read the global Settings.
        super().__init__(
            llm=llm,
            callback_manager=CallbackManager(),
            prompt_helper=PromptHelper(),
            chat_prompt_helper=ChatPromptHelper(),
            streaming=streaming,
        )

    @abstractmethod
    def pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
        """Choose and order the contexts."""

    @abstractmethod
    def answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Generator[tuple[int, Reply], None, None]:
        """Answer many questions together; yield each one's index and answer as it is finished.

        What the LLM fails on is yielded as its error. Closing the generator ends what is under way.
        """

    @abstractmethod
    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens the LLM looked up in its prefix cache, and found."""

    @abstractmethod
    def _answer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        """Answer at once."""

    @abstractmethod
    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        """Answer piece by piece."""

    @abstractmethod
    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        """Answer at once, from an event loop."""

    @abstractmethod
    def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        """Answer piece by piece, from an event loop."""

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_: Any,
    ) -> RESPONSE_TYPE:
        """Answer a question from nodes that come best first.

        Raises
        ------
        InputError
            If the question is empty.
        ConfigError
            If the prompt does not fit the window even without contexts.
        LLMError
            If the LLM fails.
        """
        asked = _asked(query)
        with self._runner.question():
            packed = self.pack(asked.query_str, nodes)
            about = _about(packed, additional_source_nodes)
            if not self._streaming:
                return Response(_text(self._answer(asked, packed), about), **about)
        return StreamingResponse(_texts(self._counted(asked, packed), about), **about)

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_: Any,
    ) -> RESPONSE_TYPE:
        """Answer as `synthesize` does, from any event loop."""
        asked = _asked(query)
        with self._runner.question():
            packed = await self._runner.run(self.pack, asked.query_str, nodes)
            about = _about(packed, additional_source_nodes)
            if not self._streaming:
                return Response(_text(await self._aanswer(asked, packed), about), **about)
        return AsyncStreamingResponse(_atexts(self._acounted(asked, packed), about), **about)

    def get_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        """Answer from bare texts that come best first, as LlamaIndex's own synthesizers can."""
        asked = _asked(query_str)
        with self._runner.question():
            packed = self.pack(query_str, _as_nodes(text_chunks))
            return _text(self._answer(asked, packed), _about(packed))

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **_: Any) -> str:
        """Answer as `get_response` does, from any event loop."""
        asked = _asked(query_str)
        with self._runner.question():
            packed = await self._runner.run(self.pack, query_str, _as_nodes(text_chunks))
            return _text(await self._aanswer(asked, packed), _about(packed))

    def _counted(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        with self._runner.stream(), closing(self._stream(query, packed)) as pieces:
            yield from pieces

    async def _acounted(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        with self._runner.stream():
            async with aclosing(self._astream(query, packed)) as pieces:
                async for piece in pieces:
                    yield piece

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        if prompts:
            raise InputError(
                "prompts cannot be replaced here", "set prompt.template in config.toml"
            )


class PromptSynthesizer(RagSynthesizer):
    """Renders the prompt template over what fits the window, and asks the LLM.

    Parameters
    ----------
    sampling
        Keyword arguments of each call of the LLM, e.g. ``max_tokens``, which packing heeds.
    instructions
        Put before the rendered prompt.
    """

    def __init__(
        self,
        llm: PackableLLM,
        template: PromptTemplate,
        *,
        streaming: bool,
        order: str = "best_last",
        sampling: Mapping[str, Any] | None = None,
        instructions: str = "",
        runner: Runner | None = None,
    ) -> None:
        super().__init__(llm, streaming=streaming, runner=runner)
        self._instructions = instructions
        self._sampling = dict(sampling or {})
        self._order = ORDERS[order]
        self._template = template
        self._packable = llm

    @cached_property
    def _neutralize(self) -> Neutralizer:
        return Neutralizer(self._packable.special_tokens())

    def pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
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

    def answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Generator[tuple[int, Reply], None, None]:
        """Send all prompts to the LLM at once."""
        asked = [index for index, pack in enumerate(packed) if pack.nodes]
        for index in sorted(set(range(len(questions))) - set(asked)):
            yield index, CompletionResponse(text=NOTHING_RELEVANT)
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
        if not packed.nodes:
            return CompletionResponse(text=NOTHING_RELEVANT)
        return self._llm.complete(packed.prompt, **self._sampling)

    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        if not packed.nodes:
            yield _piece(NOTHING_RELEVANT)
            return
        yield from self._llm.stream_complete(packed.prompt, **self._sampling)

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        if not packed.nodes:
            return CompletionResponse(text=NOTHING_RELEVANT)
        return await self._llm.acomplete(packed.prompt, **self._sampling)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        if not packed.nodes:
            yield _piece(NOTHING_RELEVANT)
            return
        async for piece in await self._llm.astream_complete(packed.prompt, **self._sampling):
            yield piece


class ExtractiveSynthesizer(RagSynthesizer):
    """Quotes the contexts, without an LLM; the packer keeps all of them, best last."""

    def __init__(
        self, extractor: Extractor, *, streaming: bool, runner: Runner | None = None
    ) -> None:
        super().__init__(MockLLM(), streaming=streaming, runner=runner)  # never asked
        self._extractor = extractor

    def pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
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
        sources = number_sources(packed.nodes)
        text = self._extractor.answer(query.query_str, sources, query.embedding)
        return CompletionResponse(text=text)

    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        yield from map(_piece, self._answer(query, packed).text.splitlines(keepends=True))

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        return await self._runner.run(self._answer, query, packed)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        for line in (await self._aanswer(query, packed)).text.splitlines(keepends=True):
            yield _piece(line)


def _asked(query: QueryType) -> QueryBundle:
    asked = query if isinstance(query, QueryBundle) else QueryBundle(query)
    check_question(asked.query_str)
    return asked


def _about(packed: Packed, additional: Sequence[NodeWithScore] | None = None) -> dict[str, Any]:
    return {
        "source_nodes": [*packed.nodes, *(additional or [])],
        "metadata": {
            "sources": number_sources(packed.nodes),
            "ledger": list(packed.ledger),
            "prompt_tokens": packed.prompt_tokens,
            "budget": packed.budget,
            **_noted(CompletionResponse(text="")),
        },
    }


def _as_nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]


def _piece(text: str) -> CompletionResponse:
    return CompletionResponse(text=text, delta=text)


def _text(reply: CompletionResponse, about: dict[str, Any]) -> str:
    """Return an answer's text, note what is told of it; of no text LlamaIndex makes "None"."""
    if not reply.text.strip():
        raise empty_answer(reply)
    about["metadata"].update(_noted(reply))
    return reply.text


def _noted(reply: CompletionResponse) -> dict[str, Any]:
    about = reply.additional_kwargs
    return {
        "reasoning": about.get("reasoning", ""),
        "finish_reason": about.get("finish_reason") or "",
        "completion_tokens": about.get("completion_tokens"),
    }


def _texts(pieces: CompletionResponseGen, about: dict[str, Any]) -> Generator[str, None, None]:
    """Do as `_text`, of a stream; what is told of it is noted as it comes."""
    whole = _Whole(about)
    for piece in pieces:
        yield whole.add(piece)
    whole.check()


async def _atexts(
    pieces: CompletionResponseAsyncGen, about: dict[str, Any]
) -> AsyncGenerator[str, None]:
    whole = _Whole(about)
    async for piece in pieces:
        yield whole.add(piece)
    whole.check()


class _Whole:
    """What a stream has been so far."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._metadata = about["metadata"]
        self._reply = CompletionResponse(text="")

    def add(self, piece: CompletionResponse) -> str:
        delta = piece.delta or ""
        self._reply.text = self._reply.text or delta.strip()
        self._reply.additional_kwargs.update(piece.additional_kwargs)
        self._metadata.update(_noted(self._reply))
        return delta

    def check(self) -> None:
        if not self._reply.text:
            raise empty_answer(self._reply)
