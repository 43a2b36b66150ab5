"""Retrieved nodes → an answer: pack, render the prompt, ask once. LlamaIndex response synthesizers.

One question is one LLM call: no refine loops, and no context is cut without the ledger saying so.

Spans and events are those of LlamaIndex's own synthesizers: ``synthesize``, in it ``get_response``,
in it the LLM's.
"""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
from llama_index.core.instrumentation.events.synthesis import (
    GetResponseEndEvent,
    GetResponseStartEvent,
    SynthesizeEndEvent,
    SynthesizeStartEvent,
)
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
from llama_index.core.types import RESPONSE_TEXT_TYPE
from llama_index_instrumentation import get_dispatcher

from rag_app.answering.extractive import NOTHING_RELEVANT, Extractor
from rag_app.answering.fencing import Neutralizer
from rag_app.answering.metadata import atexts_of, describe, text_of, texts_of
from rag_app.answering.packing import ORDERS, Packed, keep_all
from rag_app.answering.packing import pack as pack_nodes
from rag_app.answering.prompts import PromptTemplate, number_sources
from rag_app.errors import InputError
from rag_app.llms import PackableLLM, Reply
from rag_app.llms.replies import empty_answer
from rag_app.questions import check_question
from rag_app.runner import Runner
from rag_app.schema import Source

_DISPATCHER = get_dispatcher(__name__)


@dataclass(frozen=True)
class _Task:
    """A question whose contexts are chosen; `metadata` is the response's."""

    query: QueryBundle
    packed: Packed
    metadata: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return [node.node.get_content() for node in self.packed.nodes]


class RagSynthesizer(BaseSynthesizer):
    """Base of the two below.

    The `Response` has the contexts in prompt order (``prompt.order``) as `source_nodes`. Its
    metadata can be written as JSON: ``sources`` (numbered as cited) and ``ledger``, of which
    `rag_app.answering.metadata` makes records; ``prompt_tokens`` and ``budget`` (int, 0 without an
    LLM); and of a stream when that has ended ``reasoning`` (the model's, where a server sends it),
    ``finish_reason`` ("stop", "length"; empty without an LLM) and ``completion_tokens`` (None where
    nobody counted).

    Parameters
    ----------
    runner
        Where blocking steps of asynchronous questions run; None: a runner of its own.
    """

    def __init__(self, llm: LLM, *, streaming: bool, runner: Runner | None = None) -> None:
        self._runner = runner or Runner()
        # The helpers are LlamaIndex's own packing, which is not used; made here, they neither start
        # the engine for its metadata nor read the global Settings, as the callbacks would be.
        super().__init__(
            llm=llm,
            callback_manager=llm.callback_manager,
            prompt_helper=PromptHelper(),
            chat_prompt_helper=ChatPromptHelper(),
            streaming=streaming,
        )

    @property
    def callback_manager(self) -> CallbackManager:
        """Told of syntheses, and of what the LLM is asked in them."""
        return self._callback_manager

    @callback_manager.setter
    def callback_manager(self, callback_manager: CallbackManager) -> None:
        # Others share the LLM, and have callbacks of their own.
        self._llm = self._llm.model_copy(update={"callback_manager": callback_manager})
        self._callback_manager = callback_manager

    # Not abstract: what implements an abstract method has a span of its own in LlamaIndex's traces.

    def pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
        """Choose and order the contexts."""
        raise NotImplementedError

    def answer_each(
        self, questions: Sequence[str], packed: Sequence[Packed]
    ) -> Generator[tuple[int, Reply], None, None]:
        """Answer many questions together; yield each one's index and answer as it is finished.

        What the LLM fails on is yielded as its error. Closing the generator ends what is under way.
        """
        raise NotImplementedError

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens the LLM looked up in its prefix cache, and found."""
        raise NotImplementedError

    def _answer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        """Answer at once."""
        raise NotImplementedError

    def _stream(self, query: QueryBundle, packed: Packed) -> CompletionResponseGen:
        """Answer piece by piece. The LLM is called before this returns: its span is within ours."""
        raise NotImplementedError

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        """Answer at once, from an event loop."""
        raise NotImplementedError

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        """Answer piece by piece, from an event loop; as `_stream`."""
        raise NotImplementedError

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
        _DISPATCHER.event(SynthesizeStartEvent(query=query))
        asked = _asked(query)
        with self._runner.question(), self._told(asked) as event:
            task = _task(asked, self.pack(asked.query_str, nodes))
            said = self.get_response(asked.query_str, task.texts, task=task)
            response = _response(said, task, additional_source_nodes)
            event.on_end(payload={EventPayload.RESPONSE: response})
        _DISPATCHER.event(SynthesizeEndEvent(query=asked, response=response))
        return response

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_: Any,
    ) -> RESPONSE_TYPE:
        """Answer as `synthesize` does, from any event loop."""
        _DISPATCHER.event(SynthesizeStartEvent(query=query))
        asked = _asked(query)
        with self._runner.question(), self._told(asked) as event:
            task = _task(asked, await self._runner.run(self.pack, asked.query_str, nodes))
            said = await self.aget_response(asked.query_str, task.texts, task=task)
            response = _response(said, task, additional_source_nodes)
            event.on_end(payload={EventPayload.RESPONSE: response})
        _DISPATCHER.event(SynthesizeEndEvent(query=asked, response=response))
        return response

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], *, task: _Task | None = None, **_: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer from bare texts that come best first, as LlamaIndex's own synthesizers can.

        Parameters
        ----------
        task
            What `synthesize` has packed already.

        Returns
        -------
        str or generator of str
            The latter if this streams.
        """
        _DISPATCHER.event(GetResponseStartEvent(query_str=query_str, text_chunks=list(text_chunks)))
        said: RESPONSE_TEXT_TYPE
        with self._runner.question():
            if task is None:
                task = _task(_asked(query_str), self.pack(query_str, _as_nodes(text_chunks)))
            if self._streaming:
                pieces = self._stream(task.query, task.packed)
                said = texts_of(self._counted(pieces), task.metadata)
            else:
                said = text_of(self._answer(task.query, task.packed), task.metadata)
        _DISPATCHER.event(GetResponseEndEvent())
        return said

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], *, task: _Task | None = None, **_: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer as `get_response` does, from any event loop."""
        _DISPATCHER.event(GetResponseStartEvent(query_str=query_str, text_chunks=list(text_chunks)))
        said: RESPONSE_TEXT_TYPE
        with self._runner.question():
            if task is None:
                packed = await self._runner.run(self.pack, query_str, _as_nodes(text_chunks))
                task = _task(_asked(query_str), packed)
            if self._streaming:
                pieces = await self._astream(task.query, task.packed)
                said = atexts_of(self._acounted(pieces), task.metadata)
            else:
                said = text_of(await self._aanswer(task.query, task.packed), task.metadata)
        _DISPATCHER.event(GetResponseEndEvent())
        return said

    def _told(self, query: QueryBundle) -> Any:
        """Tell the callbacks of a synthesis."""
        payload = {EventPayload.QUERY_STR: query.query_str}
        return self._callback_manager.event(CBEventType.SYNTHESIZE, payload=payload)

    def _counted(self, pieces: CompletionResponseGen) -> CompletionResponseGen:
        with self._runner.stream(), closing(pieces):
            yield from pieces

    async def _acounted(self, pieces: CompletionResponseAsyncGen) -> CompletionResponseAsyncGen:
        with self._runner.stream():
            async with aclosing(pieces):
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
            return _lines(NOTHING_RELEVANT)
        return self._llm.stream_complete(packed.prompt, **self._sampling)

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        if not packed.nodes:
            return CompletionResponse(text=NOTHING_RELEVANT)
        return await self._llm.acomplete(packed.prompt, **self._sampling)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        if not packed.nodes:
            return _alines(NOTHING_RELEVANT)
        return await self._llm.astream_complete(packed.prompt, **self._sampling)


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
        return _lines(self._answer(query, packed).text)

    async def _aanswer(self, query: QueryBundle, packed: Packed) -> CompletionResponse:
        return await self._runner.run(self._answer, query, packed)

    async def _astream(self, query: QueryBundle, packed: Packed) -> CompletionResponseAsyncGen:
        return _alines((await self._aanswer(query, packed)).text)


def _asked(query: QueryType) -> QueryBundle:
    asked = query if isinstance(query, QueryBundle) else QueryBundle(query)
    check_question(asked.query_str)
    return asked


def _task(query: QueryBundle, packed: Packed) -> _Task:
    return _Task(query, packed, describe(packed))


def _response(
    said: RESPONSE_TEXT_TYPE, task: _Task, additional: Sequence[NodeWithScore] | None
) -> RESPONSE_TYPE:
    nodes = [*task.packed.nodes, *(additional or [])]
    if isinstance(said, Generator):
        return StreamingResponse(said, nodes, task.metadata)
    if isinstance(said, AsyncGenerator):
        return AsyncStreamingResponse(said, nodes, task.metadata)
    return Response(str(said), nodes, task.metadata)


def _as_nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]


def _lines(text: str) -> CompletionResponseGen:
    for line in text.splitlines(keepends=True):
        yield CompletionResponse(text=line, delta=line)


async def _alines(text: str) -> CompletionResponseAsyncGen:
    for piece in _lines(text):
        yield piece
