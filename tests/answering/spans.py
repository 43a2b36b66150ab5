"""Collects what LlamaIndex's instrumentation tells, as a tree."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.instrumentation import root_dispatcher  # type: ignore[attr-defined]
from llama_index_instrumentation.base.event import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span.base import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr


@dataclass
class Noted:
    """A span: what it is of, what happened in it, and how it ended."""

    name: str
    parent: str | None
    events: list[BaseEvent] = field(default_factory=list)
    ended: str = ""
    result: Any = None

    def event(self, kind: str) -> Any:
        """Return the one event of this class."""
        (found,) = [event for event in self.events if event.class_name() == kind]
        return found


class _Spans(BaseSpanHandler[BaseSpan]):
    _noted: dict[str, Noted] = PrivateAttr(default_factory=dict)

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> BaseSpan:
        self._noted[id_] = Noted(id_.partition("-")[0], parent_span_id)
        return BaseSpan(id_=id_)

    def prepare_to_exit_span(self, id_: str, *_: Any, **told: Any) -> BaseSpan | None:
        self._noted[id_].ended, self._noted[id_].result = "exit", told.get("result")
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, *_: Any, **told: Any) -> BaseSpan | None:
        self._noted[id_].ended = f"drop: {told.get('err')}"
        return self.open_spans.get(id_)


class _Events(BaseEventHandler):
    _noted: dict[str, Noted] = PrivateAttr()

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        if event.span_id in self._noted:
            self._noted[event.span_id].events.append(event)
        else:
            self._noted[f"{event.id_}"] = Noted(f"NOWHERE {event.class_name()}", None)


class Trace:
    """The spans and events of all LlamaIndex code that runs while it is collected."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans

    @property
    def spans(self) -> list[Noted]:
        return list(self._spans._noted.values())

    @property
    def is_open(self) -> bool:
        return bool(self._spans.open_spans)

    def of(self, name: str) -> Noted:
        """Return the one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> str:
        """Draw the spans in the order of their beginnings, each with its events' classes."""
        lines = []
        for span in self.spans:
            depth, parent = 0, span.parent
            while parent is not None:
                depth, parent = depth + 1, self._spans._noted[parent].parent
            told = [event.class_name().removesuffix("Event") for event in span.events]
            once = list(dict.fromkeys(told))  # a stream tells of each piece
            lines.append(f"{'  ' * depth}{span.name} {' '.join(once)}".rstrip())
        return "\n".join(lines)


@contextmanager
def collected() -> Iterator[Trace]:
    """Collect meanwhile; handlers of others are left alone."""
    spans = _Spans()
    events = _Events()
    events._noted = spans._noted
    before = list(root_dispatcher.span_handlers), list(root_dispatcher.event_handlers)
    root_dispatcher.add_span_handler(spans)
    root_dispatcher.add_event_handler(events)
    try:
        yield Trace(spans)
    finally:
        root_dispatcher.span_handlers, root_dispatcher.event_handlers = before
