"""A conversation over the documents: LlamaIndex's condense engine, streaming as fast as the LLM."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, aclosing, closing, contextmanager, suppress
from threading import Thread
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.chat_engine.condense_question import DEFAULT_PROMPT
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.chat_engine.utils import (
    aresponse_gen_from_query_engine,
    response_gen_from_query_engine,
)
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import ToolOutput

from rag_app.answering.fencing import Neutralizer
from rag_app.answering.metadata import sources_of
from rag_app.answering.sessions import Session
from rag_app.errors import RagAppError
from rag_app.llms import PackableLLM
from rag_app.questions import check_question
from rag_app.recipe import Remade
from rag_app.runner import Runner
from rag_app.schema import Source


class ChatEngine(Remade, CondenseQuestionChatEngine):
    """`CondenseQuestionChatEngine` over a session, whose history fits the LLM's window.

    A follow-up question is rewritten from the history by one LLM call, then answered by the query
    engine as a question that stands alone. A turn that was answered to its end is remembered.

    Safe for threads and event loops: a session is at one question at a time, and another one is
    refused with `SessionBusyError`.

    Parameters
    ----------
    query_engine
        Made with ``streaming=True``.
    session
        Returns the conversation, at each turn: it may have been forgotten since the last one.
    """

    def __init__(
        self,
        query_engine: BaseQueryEngine,
        llm: PackableLLM,
        session: Callable[[], Session],
        runner: Runner,
    ) -> None:
        self._session = session
        super().__init__(
            query_engine,
            condense_question_prompt=DEFAULT_PROMPT,
            memory=session().memory,
            llm=llm,
        )
        self._runner = runner
        self._neutralize = Neutralizer(llm.special_tokens())
        self.sources: Sequence[Source] = ()

    @property
    def chat_history(self) -> list[ChatMessage]:
        """What of the conversation is remembered."""
        return self._session().memory.get_all()

    def reset(self) -> None:
        """Forget the conversation."""
        self._session().memory.reset()
        self.sources = ()

    def stream(self, question: str) -> Generator[str, None, None]:
        """Answer piece by piece.

        Raises
        ------
        SessionBusyError
            If the session is at another question.
        RagAppError
            As the query engine.
        """
        with self._turn() as turn:
            yield from turn.pieces(self._ask(turn, question))

    async def astream(self, question: str) -> AsyncGenerator[str, None]:
        """Answer as `stream` does, from any event loop."""
        with self._turn() as turn:
            async with aclosing(turn.apieces(await self._aask(turn, question))) as pieces:
                async for piece in pieces:
                    yield piece

    def chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> AgentChatResponse:
        """Answer at once; with a history given, from that. Raises as `stream`."""
        with self._turn() as turn:
            response = self._ask(turn, message, chat_history)
            return _agent_response(turn, "".join(turn.pieces(response)), response)

    async def achat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> AgentChatResponse:
        """Answer as `chat` does, from any event loop."""
        with self._turn() as turn:
            response = await self._aask(turn, message, chat_history)
            text = "".join([piece async for piece in turn.apieces(response)])
            return _agent_response(turn, text, response)

    def stream_chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """Answer piece by piece in LlamaIndex's own type.

        That polls its queue without pause, which costs a processor: `stream` does not.
        """
        with ExitStack() as until_answered:
            turn = until_answered.enter_context(self._turn())
            response = self._ask(turn, message, chat_history)
            # The turn ends with the stream; had asking failed, it would have ended here.
            rest = until_answered.pop_all()

            def pieces() -> Generator[str, None, None]:
                with rest:
                    yield from turn.pieces(response)

            answer = StreamingAgentChatResponse(
                chat_stream=response_gen_from_query_engine(pieces()),
                sources=[_tool_output(turn, "", response)],
            )
        answer.write_response_to_history_thread = Thread(target=_write, args=(answer,))
        answer.write_response_to_history_thread.start()
        return answer

    async def astream_chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """Answer as `stream_chat` does, from any event loop."""
        with ExitStack() as until_answered:
            turn = until_answered.enter_context(self._turn())
            response = await self._aask(turn, message, chat_history)
            rest = until_answered.pop_all()

            async def pieces() -> AsyncGenerator[str, None]:
                with rest:
                    async for piece in turn.apieces(response):
                        yield piece

            answer = StreamingAgentChatResponse(
                achat_stream=aresponse_gen_from_query_engine(pieces()),
                sources=[_tool_output(turn, "", response)],
            )
        answer.awrite_response_to_history_task = asyncio.create_task(_awrite(answer))
        return answer

    @contextmanager
    def _turn(self) -> Iterator["_Turn"]:
        session = self._session()
        with session.turn():
            # A turn that fails must not show the sources of the one before.
            self.sources = ()
            yield _Turn(session.memory, self._neutralize, self._runner)

    def _ask(
        self, turn: "_Turn", question: str, history: list[ChatMessage] | None = None
    ) -> StreamingResponse:
        with self._runner.question():
            said = turn.memory.get() if history is None else history
            turn.question = self._neutralize(check_question(question))
            turn.asked = self._condense_question(said, turn.question)
            response = self._query_engine.query(turn.asked)
        assert isinstance(response, StreamingResponse)  # noqa: S101 - the engine was made so
        self.sources = sources_of(response.metadata)
        return response

    async def _aask(
        self, turn: "_Turn", question: str, history: list[ChatMessage] | None = None
    ) -> AsyncStreamingResponse:
        with self._runner.question():
            # The memory counts tokens, which may be a server's to tell.
            said = await self._runner.run(turn.memory.get) if history is None else history
            turn.question = self._neutralize(check_question(question))
            turn.asked = await self._acondense_question(said, turn.question)
            response = await self._query_engine.aquery(turn.asked)
        assert isinstance(response, AsyncStreamingResponse)  # noqa: S101 - the engine was made so
        self.sources = sources_of(response.metadata)
        return response


class _Turn:
    """A question and its answer, which are remembered together at the end."""

    def __init__(self, memory: ChatMemoryBuffer, neutralize: Neutralizer, runner: Runner) -> None:
        self.memory = memory
        self._runner = runner
        self.question = ""
        self.asked = ""
        self._neutralize = neutralize

    def pieces(self, response: StreamingResponse) -> Iterator[str]:
        # Remembered behind the loop: a turn that is broken off leaves no half answer.
        whole = []
        with closing(response.response_gen) as pieces:
            for piece in pieces:
                whole.append(piece)
                yield piece
        self._remember("".join(whole))

    async def apieces(self, response: AsyncStreamingResponse) -> AsyncGenerator[str, None]:
        whole = []
        async with aclosing(response.response_gen) as pieces:
            async for piece in pieces:
                whole.append(piece)
                yield piece
        await self._runner.run(self._remember, "".join(whole))

    def _remember(self, answer: str) -> None:
        self.memory.put(ChatMessage(role=MessageRole.USER, content=self.question))
        # An answer quotes documents, and goes into the prompt that rewrites the next question.
        self.memory.put(ChatMessage(role=MessageRole.ASSISTANT, content=self._neutralize(answer)))
        self.memory.set(self.memory.get())  # what does not fit any more is never read again


def _tool_output(turn: _Turn, content: str, response: Any) -> ToolOutput:
    return ToolOutput(
        content=content,
        tool_name="query_engine",
        raw_input={"query": turn.asked},
        raw_output=response,
    )


def _agent_response(turn: _Turn, text: str, response: Any) -> AgentChatResponse:
    """Return an answer whose metadata is that of the query engine's response."""
    return AgentChatResponse(
        response=text,
        sources=[_tool_output(turn, text, response)],
        metadata=response.metadata,
    )


def _write(answer: StreamingAgentChatResponse) -> None:
    """Fill LlamaIndex's queue; whoever reads it is told of an error. Our turn has the memory."""
    with suppress(RagAppError):
        answer.write_response_to_history(_nowhere())


async def _awrite(answer: StreamingAgentChatResponse) -> None:
    with suppress(RagAppError):
        await answer.awrite_response_to_history(_nowhere())


def _nowhere() -> ChatMemoryBuffer:
    # `list` counts characters: LlamaIndex would load a tokenizer that nobody needs.
    return ChatMemoryBuffer.from_defaults(token_limit=1, tokenizer_fn=list)
