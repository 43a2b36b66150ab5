"""LlamaIndex's spans and events of prompts that are answered together, one of each for each prompt.

`LLM.complete` gets them from LlamaIndex; a batch has no method of LlamaIndex's.
"""

import inspect
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.llm import (
    LLMCompletionEndEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.llms import LLM, CompletionResponse
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

_dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True)
class _Open:
    """What was said of a prompt when it was asked."""

    span: str
    event: str
    prompt: str
    arguments: inspect.BoundArguments


class BatchEvents:
    """Says of each prompt of a batch that it was asked, and what came of it.

    The spans are children of the one that is active when this is made.

    Parameters
    ----------
    llm
        Whose prompts they are.
    asked
        What they are asked with, beside the prompt.
    """

    def __init__(self, llm: LLM, asked: Mapping[str, Any]) -> None:
        self._llm = llm
        self._asked = dict(asked)
        self._parent = active_span_id.get()
        self._tags = active_instrument_tags.get()
        self._model = llm.to_payload()
        self._signature = inspect.signature(llm.complete)
        self._open: dict[int, _Open] = {}

    def began(self, index: int, prompt: str) -> None:
        """Say that a prompt was asked."""
        span = f"{type(self._llm).__name__}.generate-{uuid.uuid4()}"
        arguments = self._signature.bind(prompt, **self._asked)
        _dispatcher.span_enter(
            id_=span,
            bound_args=arguments,
            instance=self._llm,
            parent_id=self._parent,
            tags=self._tags,
        )
        _dispatcher.event(
            LLMCompletionStartEvent(
                prompt=prompt,
                additional_kwargs=self._asked,
                model_dict=self._model,
                span_id=span,
            )
        )
        # LlamaIndex has two systems side by side: handlers of callbacks see nothing of the spans.
        event = self._llm.callback_manager.on_event_start(
            CBEventType.LLM,
            payload={
                EventPayload.PROMPT: prompt,
                EventPayload.ADDITIONAL_KWARGS: self._asked,
                EventPayload.SERIALIZED: self._model,
            },
        )
        self._open[index] = _Open(span, event, prompt, arguments)

    def ended(self, index: int, answer: CompletionResponse) -> None:
        """Say that a prompt was answered."""
        its = self._open.pop(index)
        self._llm.callback_manager.on_event_end(
            CBEventType.LLM,
            payload={EventPayload.PROMPT: its.prompt, EventPayload.COMPLETION: answer},
            event_id=its.event,
        )
        _dispatcher.event(
            LLMCompletionEndEvent(prompt=its.prompt, response=answer, span_id=its.span)
        )
        _dispatcher.span_exit(
            id_=its.span, bound_args=its.arguments, instance=self._llm, result=answer
        )

    def failed(self, index: int, error: BaseException) -> None:
        """Say why a prompt was not answered."""
        its = self._open.pop(index)
        self._llm.callback_manager.on_event_end(
            CBEventType.LLM, payload={EventPayload.EXCEPTION: error}, event_id=its.event
        )
        _dispatcher.span_drop(id_=its.span, bound_args=its.arguments, instance=self._llm, err=error)

    def all_failed(self, error: BaseException) -> None:
        """Do as `failed` with those that are still open."""
        for index in list(self._open):
            self.failed(index, error)
