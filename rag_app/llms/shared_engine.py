"""One engine a configuration in this process, however many ask it; the last to leave closes it."""

import asyncio
import json
import os
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rag_app.errors import RagAppError
from rag_app.llms.engine_prompts import EnginePrompts
from rag_app.llms.engine_requests import Piece, Request, closed
from rag_app.llms.engine_start import start_engine
from rag_app.llms.engine_thread import POLL_SECONDS, EngineThread

if TYPE_CHECKING:
    import vllm

_LOCK = threading.RLock()  # a collected `SharedEngine` may come back to it in the same thread
_ENGINES: "dict[str, tuple[EngineThread, set[object]]]" = {}
"""The engines by their arguments, each with those that use it."""


class SharedEngine:
    """A hold on the engine of some arguments, started when it is first asked.

    The engine is closed when the last hold on it is, or is collected, or at exit.

    Parameters
    ----------
    arguments
        What `vllm.LLM` is called with.
    timeout
        Seconds without a step after which takers give up.
    """

    def __init__(self, arguments: Mapping[str, Any], timeout: float) -> None:
        self._timeout = timeout
        self._user = object()  # not self, which the table would then keep from being collected
        key = json.dumps(arguments, sort_keys=True, default=repr)
        self._thread = _join(key, dict(arguments), self._user)
        # Also at exit, while Python can still join the thread: no process is left behind.
        self._leave = weakref.finalize(self, _leave, key, self._thread, self._user)

    def engine(self) -> "vllm.LLM":
        """Return the engine, started if need be, for what is safe to read from any thread.

        Raises
        ------
        RagAppError
            If it could not be started, has failed, was closed, or runs in the process that this
            one was forked from.
        """
        if not self._leave.alive:
            raise closed()
        return self._thread.engine()

    def prompts(self) -> EnginePrompts:
        """Return the engine's tokenizer and template. Starts and raises as `engine`."""
        self.engine()
        return self._thread.prompts

    @property
    def is_running(self) -> bool:
        """Whether `engine` would not wait, nor raise."""
        return self._leave.alive and self._thread.is_running

    async def aengine(self) -> "vllm.LLM":
        """Do as `engine`, from an event loop and without blocking it while the engine starts."""
        if not self._leave.alive:
            raise closed()
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed without the taker being told
                loop.call_soon_threadsafe(ready.set)

        self._thread.start(tell)
        await ready.wait()
        return self._thread.engine()

    def ask(
        self, requests: Sequence[Request], *, sparing: bool = False
    ) -> Generator[Piece, None, None]:
        """Have prompts answered, and yield pieces as they come; leaving early aborts the rest.

        Parameters
        ----------
        sparing
            Yield a refused request's `Piece.error` and go on with the others.

        Raises
        ------
        InputError
            If vLLM refuses a request.
        LLMError
            If the engine fails, or makes no step for `timeout` seconds.
        """
        self.engine()
        pieces: queue.SimpleQueue[Piece | RagAppError] = queue.SimpleQueue()
        names = self._thread.submit(requests, pieces.put, self._user)
        unfinished = len(names)
        try:
            while unfinished:
                try:
                    piece = pieces.get(timeout=min(POLL_SECONDS, self._timeout))
                except queue.Empty:
                    self._thread.check(self._timeout)
                    continue
                if isinstance(piece, RagAppError):
                    raise piece
                unfinished -= piece.finish_reason is not None
                if piece.error is not None and not sparing:
                    raise piece.error
                yield piece
        finally:
            if unfinished:
                self._thread.abort(names)

    async def aask(self, requests: Sequence[Request]) -> AsyncGenerator[Piece, None]:
        """Do as `ask`, from an event loop: without blocking it, and without another thread."""
        await self.aengine()
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | RagAppError] = asyncio.Queue()

        def put(piece: Piece | RagAppError) -> None:
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:  # the loop was closed without the taker being told
                self._thread.abort(names)

        names = self._thread.submit(requests, put, self._user)
        unfinished = len(names)
        try:
            while unfinished:
                try:
                    async with asyncio.timeout(min(POLL_SECONDS, self._timeout)):
                        piece = await pieces.get()
                except TimeoutError:
                    self._thread.check(self._timeout)
                    continue
                if isinstance(piece, RagAppError):
                    raise piece
                unfinished -= piece.finish_reason is not None
                if piece.error is not None:
                    raise piece.error
                yield piece
        finally:
            if unfinished:
                self._thread.abort(names)

    def unfinished(self) -> int:
        """Count the requests that the engine still works on, whoever asked."""
        return self._thread.unfinished()

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens were looked up in the prefix cache so far, and found."""
        return self._thread.prefix_cache

    def close(self) -> None:
        """Let go: what was asked through this hold fails, and the last one stops the engine."""
        self._leave()


def _join(key: str, arguments: dict[str, Any], user: object) -> EngineThread:
    with _LOCK:
        thread, users = _ENGINES.get(key, (None, set()))
        # One that failed stays with those who hold it: they are told why.
        if thread is None or not thread.is_usable:
            thread, users = EngineThread(lambda: start_engine(arguments)), set()
            _ENGINES[key] = thread, users
        users.add(user)
        return thread


def _leave(key: str, thread: EngineThread, user: object) -> None:
    with _LOCK:
        found, users = _ENGINES.get(key, (None, set()))
        if found is thread:
            users.discard(user)
            if users:
                thread.leave(user)
                return
            del _ENGINES[key]
    # Outside of the lock: it waits for the step that is being made.
    thread.close()


def _after_fork() -> None:
    global _LOCK
    # A thread that held it is not there any more to let go. The engines are the parent's to close.
    _LOCK = threading.RLock()
    _ENGINES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
