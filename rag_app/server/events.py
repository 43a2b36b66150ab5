"""Server-sent events: a stream of JSON, and what ends with it."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from rag_app.server.admission import Place
from rag_app.server.answers import Answer
from rag_app.server.disconnect import until_gone
from rag_app.server.service import Service


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


async def respond(
    request: Request,
    service: Service,
    begin: Callable[[Place], Awaitable[Answer]],
    *,
    whole: Callable[[Answer], Mapping[str, Any]],
    events: Callable[[Answer], AsyncGenerator[str, None]] | None,
) -> Response:
    """Answer one question in a place among those that are worked on.

    Parameters
    ----------
    begin
        Begins the answer.
    whole
        Makes the response of an answer that has ended.
    events
        Makes events of one that begins; None: the client wants it whole.
    """
    if events is None:
        return JSONResponse(await until_gone(request, _whole(service, begin, whole)))
    # Begun here, so that what fails before the first piece has its own status.
    return await until_gone(request, _stream(service, begin, events))


async def _stream(
    service: Service,
    begin: Callable[[Place], Awaitable[Answer]],
    events: Callable[[Answer], AsyncGenerator[str, None]],
) -> EventStream:
    place = await service.admission.enter()
    try:
        answer = await begin(place)
    except BaseException:
        place.leave()
        raise
    return EventStream(events(answer), answer, place)


async def _whole(
    service: Service,
    begin: Callable[[Place], Awaitable[Answer]],
    whole: Callable[[Answer], Mapping[str, Any]],
) -> Mapping[str, Any]:
    with await service.admission.enter() as place:
        answer = await begin(place)
        # The answer keeps its own text.
        async for _ in answer.pieces:
            pass
        return whole(answer)


def event(content: Mapping[str, Any], name: str = "") -> str:
    """Return one event."""
    head = f"event: {name}\n" if name else ""
    # JSON escapes line breaks, so one "data:" line holds it whatever is in it.
    return f"{head}data: {json.dumps(content, ensure_ascii=False)}\n\n"
