"""Server-sent events: a stream of JSON, and what ends with it."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rag_app.server.admission import Place
from rag_app.server.answers import Answer


class EventStream(StreamingResponse):
    """A stream of events about an answer.

    When it ends, and however it ends, the answer ends and its place is left: a client that goes
    away takes its request out of the model.
    """

    def __init__(self, events: AsyncGenerator[str, None], answer: Answer, place: Place) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
        self._events = events
        self._answer = answer
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # First: it awaits nothing, so that no cancellation can keep the place.
            self._place.leave()
            await self._events.aclose()
            # Closing the events does not close what they iterate over,
            # least of all if they never began.
            await self._answer.pieces.aclose()


def event(content: Mapping[str, Any], name: str = "") -> str:
    """Return one event."""
    head = f"event: {name}\n" if name else ""
    # JSON escapes line breaks, so one "data:" line holds it whatever is in it.
    return f"{head}data: {json.dumps(content, ensure_ascii=False)}\n\n"
