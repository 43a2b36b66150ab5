"""Something costly, shared by all who ask: made on first use, and closed once."""

from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

from rag_app.errors import ClosedError

T = TypeVar("T")


class Part(Generic[T]):
    """Makes a thing on first use, once, from any thread; closes it once.

    Parameters
    ----------
    make
        What is called on first use.
    close
        What gives the thing back; None: nothing has to.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], object] | None = None) -> None:
        self._make = make
        self._close = close
        self._made: list[T] = []  # a list, since None may be what was made
        self._is_closed = False
        self._lock = RLock()

    def __call__(self) -> T:
        """Return the thing.

        Raises
        ------
        ClosedError
            After `close`.
        """
        with self._lock:
            self._check()
            if not self._made:
                self._made.append(self._make())  # what fails is tried again by the next who asks
            made = self._made[0]
        if self._is_closed:  # by another thread, which did not wait for what was being made
            self.close()
            self._check()
        return made

    def close(self) -> None:
        """Close the thing, at once: what is being made now is closed when it is there."""
        # Without the lock, which is held as long as a model loads.
        self._is_closed = True
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._made and self._close is not None:
                self._close(self._made.pop())
            self._made.clear()
        finally:
            self._lock.release()

    def _check(self) -> None:
        if self._is_closed:
            raise ClosedError
