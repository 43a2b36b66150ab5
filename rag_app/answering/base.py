"""What synthesizers share: a question and nodes → a response, told to LlamaIndex's handlers.

Spans and events are those of LlamaIndex's own synthesizers: ``synthesize``, in it ``get_response``,
in it the LLM's.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace
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
)
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType, TextNode
from llama_index.core.types import RESPONSE_TEXT_TYPE
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel

from rag_app.answering.confidence import Judge
from rag_app.answering.marking import Marker, amarked, marked
from rag_app.answering.metadata import atexts_of, describe, text_of, texts_of
from rag_app.answering.packing import Packed
from rag_app.answering.prompts import number_sources
from rag_app.answering.support import SupportChecker
from rag_app.errors import ConfigError
from rag_app.llms import Reply
from rag_app.questions import check_question
from rag_app.runner import Runner

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
    """Base of `PromptSynthesizer` and `ExtractiveSynthesizer`.

    The `Response` has the contexts in prompt order (``prompt.order``) as `source_nodes`. Its
    metadata can be written as JSON: ``sources`` (numbered as cited) and ``ledger``, of which
    `rag_app.answering.metadata` makes records; ``prompt_tokens`` and ``budget`` (int, 0 without an
    LLM); ``confidence`` (the probability that the contexts hold the answer; None: not judged),
    ``answered`` (False: the answer says that the documents have none), ``certain`` and ``why`` (see
    `rag_app.answering.confidence.Verdict`); ``support`` (of each sentence, see `SentenceSupport`;
    None where nothing was checked, as of quotations; a stream's grows as sentences end); and of a
    stream when that has ended ``reasoning`` (the model's, where a server sends it),
    ``finish_reason`` ("stop", "length"; empty without an LLM) and ``completion_tokens`` (None where
    nobody counted).

    Parameters
    ----------
    runner
        Where blocking steps of asynchronous questions run; None: a runner of its own.
    judge
        Tells whether the contexts answer a question; None: nobody does, and all are answered.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        streaming: bool,
        runner: Runner | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._runner = runner or Runner()
        self._judge = judge
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
        # Others share the LLM, and have callbacks of their own. The plain copy is no other LLM: it
        # has the same engine or connections, and ends with the first, which is closed.
        self._llm = BaseModel.__copy__(self._llm)
        self._llm.callback_manager = callback_manager
        self._callback_manager = callback_manager

    _checker: SupportChecker | None = None

    # Not abstract: what implements an abstract method has a span of its own in LlamaIndex's traces.

    def pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
        """Choose and order the contexts, and judge whether they answer the question."""
        packed = self._pack(question, nodes)
        if self._judge is None:
            return packed
        # Those that were left out for want of room answer nothing.
        return replace(packed, verdict=self._judge(question, packed.nodes))

    def _pack(self, question: str, nodes: Sequence[NodeWithScore]) -> Packed:
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
            # Here, with the response: the block's end would end it without.
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
            # Packing counts tokens, which a server may have to tell.
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
                # Counted for itself: it goes on after this has returned, and `drain` waits for it.
                pieces = self._stream(task.query, task.packed)
                said = texts_of(self._counted(pieces), task.metadata)
                if marker := self._marker(task):
                    said = marked(said, marker)
            else:
                said = text_of(self._answer(task.query, task.packed), task.metadata)
                if marker := self._marker(task):
                    marker.add(said)
                    marker.check(is_end=True)
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
                if marker := self._marker(task):
                    said = amarked(said, marker, self._runner.run)
            else:
                said = text_of(await self._aanswer(task.query, task.packed), task.metadata)
                if marker := self._marker(task):
                    marker.add(said)
                    await self._runner.run(lambda: marker.check(is_end=True))
        _DISPATCHER.event(GetResponseEndEvent())
        return said

    def _marker(self, task: _Task) -> Marker | None:
        """Return what checks an answer's sentences; None: they are quotations, or nobody checks."""
        if self._checker is None or not task.packed.nodes:
            return None
        sources = number_sources(task.packed.nodes)
        return Marker(self._checker, sources, task.query.query_str, task.metadata)

    def _told(self, query: QueryBundle) -> Any:
        """Tell the callbacks of a synthesis."""
        payload: dict[str, Any] = {EventPayload.QUERY_STR: query.query_str}
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
            raise ConfigError(
                "there are no prompts to replace: no model is asked",
                "set llm.backend to one that has a prompt",
            )


def _asked(query: QueryType) -> QueryBundle:
    asked = query if isinstance(query, QueryBundle) else QueryBundle(query)
    check_question(asked.query_str)
    return asked


def _task(query: QueryBundle, packed: Packed) -> _Task:
    return _Task(query, packed, describe(packed))


def _response(
    said: RESPONSE_TEXT_TYPE, task: _Task, additional: Sequence[NodeWithScore] | None
) -> RESPONSE_TYPE:
    # Behind the packed ones, whose places are the numbers that an answer cites.
    nodes = [*task.packed.nodes, *(additional or [])]
    if isinstance(said, Generator):
        return StreamingResponse(said, nodes, task.metadata)
    if isinstance(said, AsyncGenerator):
        return AsyncStreamingResponse(said, nodes, task.metadata)
    return Response(str(said), nodes, task.metadata)


def _as_nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]
