"""How much is let in: so many at once, so many that wait, so many of each key; then 429."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rag_app.config.server import ServerSection
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key, per_second


class Place:
    """A place among the questions that are worked on; left once, from any task of its loop.

    Attributes
    ----------
    deadline
        On the loop's clock: what is not done by then is given up.
    """

    def __init__(self, leave: Callable[[], None], deadline: float) -> None:
        self._leave: Callable[[], None] | None = leave
        self.deadline = deadline

    def leave(self) -> None:
        """Make room for the next question. A second time does nothing."""
        # Taken out first: an answer that fails ends in more than one place, and a place that is
        # given back twice would let one question too many in for ever.
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class Admission:
    """Lets so many in at once and so many wait. Belongs to one event loop."""

    def __init__(self, section: ServerSection) -> None:
        self._most_waiting = section.max_queue
        self._seconds = section.deadline
        self._room = asyncio.Semaphore(section.max_in_flight)
        self.in_flight = 0
        self.waiting = 0

    async def enter(self) -> Place:
        """Wait for a place; the waiting counts into ``server.deadline``.

        Raises
        ------
        RequestError
            429 if too many wait.
        TimeoutError
            If there was no room before the deadline.
        """
        # While there is room nobody counts as waiting: `max_queue = 0` still lets questions in.
        if self._room.locked() and self.waiting >= self._most_waiting:
            raise RequestError(
                429,
                f"{self.in_flight} questions are under way and {self.waiting} wait",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        deadline = asyncio.get_running_loop().time() + self._seconds
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        finally:
            # Also when the deadline passes, or the client goes away, while it waits.
            self.waiting -= 1
        self.in_flight += 1
        return Place(self._leave, deadline)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Wait for a place and hold it for the block, which the deadline ends.

        Raises
        ------
        RequestError, TimeoutError
            As `enter`; the second one also if the block is not done in time.
        """
        with await self.enter() as place:
            async with asyncio.timeout_at(place.deadline):
                yield

    def _leave(self) -> None:
        self.in_flight -= 1
        self._room.release()


class Allowances:
    """How many more requests each key may make: a bucket that fills at the key's rate."""

    # Not the time of day: setting the system's clock must neither fill nor empty a bucket.
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: Key) -> None:
        """Take one request.

        Raises
        ------
        RequestError
            429 if there is none left, with the seconds until there is.
        """
        rate = per_second(key.rate)
        if rate is None:
            return
        most = max(1.0, float(key.rate.partition("/")[0]))
        now = self._clock()
        # By digest: a name can be given to another key once its first one is revoked.
        left, before = self._buckets.get(key.digest, (most, now))
        left = min(most, left + (now - before) * rate)
        if left < 1:
            self._buckets[key.digest] = (left, now)
            # "Retry-After: 0" would have the client come back at once.
            wait = math.ceil((1 - left) / rate)
            raise RequestError(
                429,
                f"the key {key.name!r} may make {key.rate} requests",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(wait)},
            )
        self._buckets[key.digest] = (left - 1, now)
