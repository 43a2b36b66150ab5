"""One ingest at a time for those who share a collection, ended when its owner closes."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, RLock

from rag_app.errors import ClosedError


class SerialRuns:
    """Lets ingests take turns: Milvus Lite mixes up what is written to a collection at once."""

    def __init__(self) -> None:
        self._turn = RLock()
        self._stops: list[Event] = []
        self._is_closed = False

    @contextmanager
    def run(self, stop: Event | None) -> Iterator[Event]:
        """Wait for the others, and yield what stops this one.

        Parameters
        ----------
        stop
            The caller's own way to stop it; None: one is made.

        Raises
        ------
        ClosedError
            After `close`.
        """
        stop = stop or Event()
        self._stops.append(stop)
        try:
            with self._turn:
                # Asked in its turn: the owner may have closed while this one waited.
                if self._is_closed:
                    raise ClosedError
                yield stop
        finally:
            self._stops.remove(stop)

    def close(self) -> None:
        """Stop those that run or wait, and wait until what is embedded is written."""
        self._is_closed = True
        # A copy: runs that end take theirs out meanwhile.
        for stop in list(self._stops):
            stop.set()
        with self._turn:
            pass
