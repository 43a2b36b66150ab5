"""Blocking work beside the event loop."""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread; who is cancelled meanwhile leaves at once.

    The thread ends by itself then, and what it makes is there for the next one who asks: this is
    for work that loads a shared part, or reads. Starlette's `run_in_threadpool` waits for the end,
    beyond any deadline.
    """
    return await to_thread.run_sync(work, abandon_on_cancel=True)
