"""A conversation → an answer that streams, with its sources: what all question routes share."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_index.core.base.response.schema import AsyncStreamingResponse
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.schema import QueryBundle
from pydantic import BaseModel, ConfigDict, Field

from rag_app.answering.citations import cited_places
from rag_app.answering.metadata import ledger_of, sources_of
from rag_app.app import RagApp
from rag_app.questions import is_small_talk
from rag_app.retrieval.filter_text import parse_filter
from rag_app.schema import LedgerEntry, Source
from rag_app.server import tracing
from rag_app.server.access import filters_of
from rag_app.server.conversation import Conversation, condense, is_task
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.links import Links
from rag_app.server.metrics import Metrics
from rag_app.server.service import Service
from rag_app.server.threads import in_thread

GREETING = "Hello! Ask me something about the documents."
"""Said to small talk where no model writes."""


class RagOptions(BaseModel):
    """Our own field ``rag`` of a request: the retrieval and prompt of this one question."""

    model_config = ConfigDict(extra="forbid")

    filter: str = ""
    """Only documents like this are searched; joined to the key's and the configuration's."""
    similarity_top_k: int | None = Field(default=None, ge=1, le=1000)
    mode: str | None = None
    order: str | None = None
    strict: bool | None = None
    """Leave out sentences that no passage bears out; the answer then comes all at once."""
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    """Say that the documents do not answer the question below this."""
    explain: bool = False
    """Also return the passages' texts."""

    def overrides(self) -> dict[str, Any]:
        """Return what differs from the configuration."""
        asked = {
            "similarity_top_k": self.similarity_top_k,
            "mode": self.mode,
            "order": self.order,
            "strict": self.strict,
            "min_confidence": self.min_confidence,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass
class Answer:
    """An answer under way. What is told of it is whole when `pieces` has ended.

    Attributes
    ----------
    kind
        "answer": from the documents; "small_talk" and "task": without them.
    question
        As it was looked for: a follow-up question is rewritten.
    notes
        What of the request was not heeded, and why.
    timings_ms
        "condense", "retrieve", "first_token", "total", in milliseconds; "first_token" and "total"
        from the beginning.
    """

    kind: Literal["answer", "small_talk", "task"]
    question: str
    pieces: AsyncGenerator[str, None]
    sources: list[Source] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    text: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finish_reason(self) -> str:
        """OpenAI's: "stop" or "length"."""
        return "length" if self.told.get("finish_reason") == "length" else "stop"

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt; 0 where no model was asked, or nobody counted."""
        return int(self.told.get("prompt_tokens") or 0)

    @property
    def completion_tokens(self) -> int:
        """Of the answer; 0 where no model was asked, or nobody counted."""
        return int(self.told.get("completion_tokens") or 0)

    def cited(self) -> list[tuple[int, int, Source]]:
        """Return where the text cites a source: start and end of the brackets, and the source."""
        by_number = {source.number: source for source in self.sources}
        return [
            (start, end, by_number[number])
            for start, end, numbers in cited_places(self.text)
            for number in numbers
            # A model can write a number that no context has.
            if number in by_number
        ]

    def annotations(self, links: Links) -> list[dict[str, Any]]:
        """Return OpenAI's ``url_citation`` of each number that the answer cites."""
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": start,
                    "end_index": end,
                    "title": _title(source),
                    "url": links.to(source),
                },
            }
            for start, end, source in self.cited()
        ]

    def search_results(self, links: Links) -> list[dict[str, Any]]:
        """Return all sources in the order of their numbers."""
        return [
            {
                "title": _title(source),
                "url": links.to(source),
                "score": source.score,
                "page": source.page,
                "path": source.path,
            }
            for source in self.sources
        ]

    def about(self, *, explain: bool) -> dict[str, Any]:
        """Return our own field ``rag`` of the response."""
        about: dict[str, Any] = {
            "kind": self.kind,
            "question": self.question,
            "retrieved": self.kind == "answer",
            "ledger": [entry.to_dict() for entry in self.ledger],
            "timings_ms": {name: round(ms, 2) for name, ms in self.timings_ms.items()},
            "notes": self.notes,
            "support": self.told.get("support"),
            "confidence": self.told.get("confidence"),
            "answered": self.told.get("answered", True),
            "certain": self.told.get("certain", True),
        }
        if explain:
            about["passages"] = [source.to_dict() for source in self.sources]
            about["why"] = self.told.get("why", [])
        return about


def _title(source: Source) -> str:
    page = f", page {source.page}" if source.page else ""
    return f"{source.title or source.path}{page}"


async def ask(
    service: Service,
    collection: str,
    key: Key,
    conversation: Conversation,
    options: RagOptions,
    sampling: Mapping[str, Any],
    deadline: float,
) -> Answer:
    """Begin to answer; the pieces come as the model writes them.

    Parameters
    ----------
    deadline
        On the loop's clock.
    sampling
        Sampling parameters by the names of ``[llm]``; not heeded where no model writes, and said.

    Raises
    ------
    RequestError
        404 if there is no such collection; if a task of a chat program needs a model and there is
        none.
    TimeoutError
        After the deadline; so do the pieces.
    RagAppError
        As the query engine.
    """
    started = time.perf_counter()
    tracing.note({tracing.OPERATION: "chat", tracing.MODEL: collection})
    question = conversation.question
    async with asyncio.timeout_at(deadline):
        app = await service.app(collection, key)
    # Before any search: such a prompt holds the whole conversation, which is nothing to look for.
    if is_task(question):
        if not service.has_llm:
            message = "this server quotes documents; it has no language model for other tasks"
            raise RequestError(400, message, code="needs_llm", param="messages")
        # Pieces are put in below: they write what they learn into the
        # answer, which is there before them.
        answer = Answer("task", question, _nothing())
        pieces = _written(app, conversation, sampling, answer)
    elif service.config.server.small_talk and is_small_talk(question):
        answer = Answer("small_talk", question, _nothing())
        if service.has_llm:
            pieces = _written(app, conversation, sampling, answer)
        else:
            pieces = _said(GREETING)
    else:
        answer = Answer("answer", question, _nothing())
        # Small talk and tasks do nothing before their first piece; `_timed` bounds every piece.
        async with asyncio.timeout_at(deadline):
            pieces = await _from_documents(app, key, conversation, options, sampling, answer)
    if not service.has_llm:
        _note_unused(answer, conversation, sampling)
    answer.pieces = _timed(pieces, answer, started, deadline, service.metrics)
    return answer


async def _from_documents(
    app: RagApp,
    key: Key,
    conversation: Conversation,
    options: RagOptions,
    sampling: Mapping[str, Any],
    answer: Answer,
) -> AsyncGenerator[str, None]:
    overrides = options.overrides()
    if app.answers_by_llm:
        overrides |= sampling
        if conversation.instructions:
            own = app.config.prompt.instructions
            overrides["instructions"] = f"{own}\n{conversation.instructions}".strip()
    # A request's own filter only ever narrows: it is joined to the key's, and replaces nothing.
    filters = filters_of(key, parse_filter(options.filter))
    # In a thread: it may load the reranker, while other answers stream on this loop.
    engine = await in_thread(lambda: app.query_engine(streaming=True, filters=filters, **overrides))
    # A first question stands alone, and rewriting takes a whole call of the model.
    if conversation.history and app.answers_by_llm:
        before = time.perf_counter()
        answer.question = await condense(app.llm, conversation)
        answer.timings_ms["condense"] = _ms_since(before)
    before = time.perf_counter()
    query = QueryBundle(answer.question)
    # Not `aquery`: the two halves are timed apart.
    nodes = await engine.aretrieve(query)
    answer.timings_ms["retrieve"] = _ms_since(before)
    response = await engine.asynthesize(query, nodes)
    answer.told = response.metadata or {}
    answer.sources = sources_of(answer.told)
    answer.ledger = ledger_of(answer.told)
    assert isinstance(response, AsyncStreamingResponse)  # noqa: S101 - it was asked to stream
    return response.response_gen


async def _written(
    app: RagApp, conversation: Conversation, sampling: Mapping[str, Any], answer: Answer
) -> AsyncGenerator[str, None]:
    """Let the model answer from the conversation alone."""
    messages = [*conversation.history, ChatMessage(content=conversation.question)]
    if conversation.instructions:
        system = ChatMessage(role=MessageRole.SYSTEM, content=conversation.instructions)
        messages = [system, *messages]
    last: ChatResponse | CompletionResponse | None = None
    async for piece in await app.llm.astream_chat(messages, **sampling):
        last = piece
        yield piece.delta or ""
    if last is not None:
        answer.told = last.additional_kwargs


async def _said(text: str) -> AsyncGenerator[str, None]:
    yield text


async def _nothing() -> AsyncGenerator[str, None]:
    return
    # Never reached; without it this would be no generator.
    yield


async def _timed(
    pieces: AsyncGenerator[str, None],
    answer: Answer,
    started: float,
    deadline: float,
    metrics: Metrics,
) -> AsyncGenerator[str, None]:
    """Pass the pieces on, and keep the text; a client that goes away ends them."""
    # A generator that is left half read ends when it is
    # collected; the model would write on till then.
    async with aclosing(pieces):
        while True:
            # One timeout for each piece: held open across a `yield`, it would cancel whoever reads.
            # Not `anext(pieces, None)`: Python awaits what that returns anew at each of its waits,
            # and a stream that is traced can be awaited once.
            try:
                async with asyncio.timeout_at(deadline):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                break
            # An empty piece shows nobody anything, and is no first token.
            if not piece:
                continue
            if not answer.text:
                answer.timings_ms["first_token"] = _ms_since(started)
            answer.text += piece
            yield piece
    answer.timings_ms["total"] = _ms_since(started)
    tracing.note(
        {
            tracing.INPUT_TOKENS: answer.prompt_tokens,
            tracing.OUTPUT_TOKENS: answer.completion_tokens,
            tracing.FINISH_REASONS: [answer.finish_reason],
        }
    )
    # Whole answers alone are counted: of one that was broken off the tokens are not known.
    metrics.add_answer(answer.timings_ms, answer.prompt_tokens, answer.completion_tokens)


def _note_unused(answer: Answer, conversation: Conversation, sampling: Mapping[str, Any]) -> None:
    unused = [*sampling]
    if conversation.instructions:
        unused.append("the system message")
    if conversation.history:
        unused.append("the history")
    if unused:
        answer.notes.append(f"not heeded, since no model writes here: {', '.join(unused)}")


def _ms_since(before: float) -> float:
    return (time.perf_counter() - before) * 1000
