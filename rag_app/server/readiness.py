"""Whether every part answers: asked once for all who want to know at the same time."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool

DEADLINE = 10.0
"""Seconds: what probes of Kubernetes and load balancers wait at most, as a rule."""


class Readiness:
    """Asks the parts, one question at a time: one that hangs holds one thread, however many ask.

    Parameters
    ----------
    ping
        Returns what fails, by name; may block.
    deadline
        In seconds.
    """

    def __init__(self, ping: Callable[[], Mapping[str, str]], deadline: float = DEADLINE) -> None:
        self._ping = ping
        self._deadline = deadline
        self._asking: asyncio.Task[Mapping[str, str]] | None = None

    async def __call__(self) -> dict[str, str]:
        """Return what fails, by name; empty: nothing."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(run_in_threadpool(self._ping))
        try:
            return dict(await asyncio.wait_for(asyncio.shield(self._asking), self._deadline))
        except TimeoutError:
            return {"parts": f"no answer within {self._deadline:g} s"}
