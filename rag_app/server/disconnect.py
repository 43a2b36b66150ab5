"""A client that goes away ends what is done for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from rag_app.server.errors import RequestError

T = TypeVar("T")


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns, or cancel it when the client has gone.

    Raises
    ------
    RequestError
        499 then, which nobody reads.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        # nginx's status for this: HTTP has none, and the metrics are to tell it from failures.
        raise RequestError(499, "the client has gone", code="gone")
    finally:
        for each in (task, gone):
            each.cancel()
        # Cancelled is not ended: only then are its place left and the model's request gone.
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    # The body was read before the route began; what comes now is nothing but the end.
    while (await request.receive())["type"] != "http.disconnect":
        pass
