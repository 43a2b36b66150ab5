"""Where the questions of an application run: blocking steps in a bounded pool, counted, drained."""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import ParamSpec, TypeVar

from rag_app.errors import ClosedError, UserError

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
"""Blocking steps of asynchronous questions that run at the same time; more wait for their turn."""

_within: contextvars.ContextVar[bool] = contextvars.ContextVar("within", default=False)
"""Whether this is part of a question that was let in already."""


class Runner:
    """Lets questions in, runs their blocking steps off the event loop, and waits for them to end.

    Its threads are its own: whoever fills the default executor of an event loop does not stop the
    questions, and they do not stop others.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rag_app")
        self._changed = Condition()
        self._running = 0
        self._is_closed = False

    @contextmanager
    def question(self) -> Iterator[None]:
        """Count a question, or a step of one, as long as the block runs.

        Raises
        ------
        ClosedError
            As `stream`; a step of a question that was let in before is let in, too.
        """
        with self._counted(is_let_in=_within.get()):
            token = _within.set(True)
            try:
                yield
            finally:
                _within.reset(token)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count an answer that comes piece by piece, as long as the block runs.

        Raises
        ------
        ClosedError
            After `drain`, and in place of what fails because its parts were closed under it.
        """
        # Between two pieces the code of others runs, which is no step of this question.
        with self._counted(is_let_in=_within.get()):
            yield

    @contextmanager
    def _counted(self, *, is_let_in: bool) -> Iterator[None]:
        with self._changed:
            if self._is_closed and not is_let_in:
                raise ClosedError
            self._running += 1
        try:
            yield
        except UserError:  # the same input would fail in an open app, too
            raise
        except Exception as error:
            if self._is_closed:
                raise ClosedError from error
            raise
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking step in a thread of the pool, in the caller's context.

        Raises
        ------
        ClosedError
            After `close`.
        """
        # It holds the span that what happens below belongs to, and `_within`.
        context = contextvars.copy_context()
        try:
            step = self._pool.submit(lambda: context.run(work, *args, **kwargs))
        except RuntimeError:  # the pool was shut down
            raise ClosedError from None
        return await asyncio.wrap_future(step)

    def drain(self, seconds: float) -> None:
        """Let no question in any more, and wait for those that run, so long at most."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._running, seconds)

    def close(self) -> None:
        """Give the threads back; steps that still wait for one do not begin."""
        self.drain(0.0)
        # What hangs in a step keeps its thread until it ends; nobody waits for it here.
        self._pool.shutdown(wait=not self._running, cancel_futures=True)
