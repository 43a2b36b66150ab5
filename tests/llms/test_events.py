"""Spans and events of what is answered in a batch."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMCompletionEndEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from rag_app.errors import RagAppError
from rag_app.llms import VllmEngine, VllmServer
from tests.llms.conftest import WINDOW

PROMPTS = ["What is a licence?", "What is a copy?", "word " * 2 * WINDOW]


class Events(BaseEventHandler):
    _seen: list[BaseEvent] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self._seen.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self._seen if isinstance(event, kind)]


@pytest.fixture
def trace() -> Iterator[tuple[Events, SimpleSpanHandler]]:
    root, events, spans = get_dispatcher(), Events(), SimpleSpanHandler()
    root.add_event_handler(events)
    root.add_span_handler(spans)
    yield events, spans
    root.event_handlers.remove(events)
    root.span_handlers.remove(spans)


def test_each_prompt_of_a_batch_has_events(
    llm: VllmEngine | VllmServer, trace: tuple[Events, SimpleSpanHandler]
) -> None:
    events, spans = trace
    dispatcher = get_dispatcher("tests")

    @dispatcher.span
    def ask() -> dict[int, Any]:
        return dict(llm.generate_each(PROMPTS, max_tokens=4))

    found = ask()
    assert isinstance(found[2], RagAppError)
    started, ended = events.of(LLMCompletionStartEvent), events.of(LLMCompletionEndEvent)
    assert Counter(event.prompt for event in started) == Counter(PROMPTS)
    assert {event.prompt: event.response.text for event in ended} == {
        PROMPTS[index]: found[index].text for index in (0, 1)
    }
    for event in ended:
        assert event.response.additional_kwargs["completion_tokens"] == 4
        assert event.response.additional_kwargs["prompt_tokens"] == llm.count_tokens(event.prompt)
    (parent,) = [span for span in spans.completed_spans if "ask" in span.id_]
    below = [span for span in spans.completed_spans if span.parent_id == parent.id_]
    dropped = [span for span in spans.dropped_spans if span.parent_id == parent.id_]
    assert (len(below), len(dropped)) == (2, 1)
    assert {event.span_id for event in ended} <= {span.id_ for span in below}
    assert not spans.open_spans


async def test_each_request_to_a_server_is_one_span(
    client: VllmServer, trace: tuple[Events, SimpleSpanHandler]
) -> None:
    messages = [ChatMessage(content=PROMPTS[0])]
    for llm in (client, client.model_copy(update={"is_chat_model": False})):
        answers = [
            llm.complete(PROMPTS[0], max_tokens=2).text,
            [piece.delta or "" for piece in llm.stream_complete(PROMPTS[0], max_tokens=2)],
            (await llm.acomplete(PROMPTS[0], max_tokens=2)).text,
            [p.delta or "" async for p in await llm.astream_complete(PROMPTS[0], max_tokens=2)],
            llm.chat(messages, max_tokens=2).message.content,
            [piece.delta or "" for piece in llm.stream_chat(messages, max_tokens=2)],
            (await llm.achat(messages, max_tokens=2)).message.content,
            [piece.delta or "" async for piece in await llm.astream_chat(messages, max_tokens=2)],
        ]
        assert len({"".join(answer or "") for answer in answers[:4]}) == 1
        assert len({"".join(answer or "") for answer in answers[4:]}) == 1
    spans = trace[1].completed_spans
    assert len(spans) == 16
    assert not trace[1].open_spans
    assert {span.parent_id for span in spans} == {None}
    assert len(trace[0].of(LLMCompletionEndEvent)) == 12
    assert len(trace[0].of(LLMChatEndEvent)) == 4


def test_a_batch_that_is_left_closes_its_spans(
    engine: VllmEngine, trace: tuple[Events, SimpleSpanHandler]
) -> None:
    batch = engine.generate_each(PROMPTS[:2], max_tokens=400, ignore_eos=True)
    assert next(batch)[0] in (0, 1)
    batch.close()
    assert not trace[1].open_spans
    assert len(trace[1].completed_spans) + len(trace[1].dropped_spans) == 2


def test_tokens_of_a_batch_are_counted(engine: VllmEngine) -> None:
    counter = TokenCountingHandler(tokenizer=lambda _: [])
    counted = engine.model_copy(update={"callback_manager": CallbackManager([counter])})
    counted.generate(PROMPTS[:2], max_tokens=4)
    assert counter.completion_llm_token_count == 8
    assert counter.prompt_llm_token_count == sum(map(engine.count_tokens, PROMPTS[:2]))
