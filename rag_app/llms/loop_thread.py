"""An event loop in a thread of its own, for callers without one: each wait can be broken off."""

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long `LoopThread.close` waits for what it broke off."""


class LoopThread:
    """Runs coroutines for any number of threads, which wait for them.

    A wait ends at once on Ctrl-C or `cancel`, whatever the coroutine is waiting for: a blocking
    read of a socket would not.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closing = False
        self._waiting: dict[Future[Any], int] = {}
        self._thread = threading.Thread(target=self._run, name="llm-requests", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return or raise what it does.

        Raises
        ------
        concurrent.futures.CancelledError
            If it was cancelled, or this is closed.
        """
        with self._lock:
            if self._closing:
                coroutine.close()  # else Python warns that nobody awaited it
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._waiting[future] = threading.get_ident()
        try:
            return future.result()
        finally:
            with self._lock:
                del self._waiting[future]
            future.cancel()  # does nothing unless the wait was interrupted

    def cancel(self, threads: Collection[int]) -> None:
        """Break off what the threads with these identifiers wait for."""
        with self._lock:
            futures = [future for future, thread in self._waiting.items() if thread in threads]
        for future in futures:
            future.cancel()

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Break everything off, run `last`, and end the thread. Does nothing twice."""
        if self.process != os.getpid():
            return
        with self._lock:
            if self._closing:
                return
            self._closing = True

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            try:
                await last()
                await self._loop.shutdown_asyncgens()
            finally:  # whatever they fail on, the thread has to end
                self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        # A finalizer may run in this very thread, which cannot wait for its own end.
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
