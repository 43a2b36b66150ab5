"""The thread that owns a vLLM engine: requests come in by a queue, pieces of answers go out.

vLLM's engine is not safe for threads, and batches only what is handed to it between two steps. So
one thread does everything that touches it, and any number of threads and event loops ask that one.
"""

import asyncio
import gc
import itertools
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_app.errors import InputError, LLMError, RagAppError

if TYPE_CHECKING:
    import vllm

POLL_SECONDS = 1.0
"""How often a waiting taker looks whether the engine still makes steps."""

CLOSE_SECONDS = 30.0
"""How long `EngineThread.close` waits for the step that is being made."""


@dataclass(frozen=True)
class Piece:
    """What one step added to an answer.

    Attributes
    ----------
    index
        Which of the prompts that were asked together.
    text
        New text; may be empty.
    prompt_tokens, cached_tokens, completion_tokens
        So far. Cached ones are those of the prompt that the prefix cache had.
    finish_reason
        "stop", "length", … on the last piece, else None.
    """

    index: int
    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str | None


@dataclass(frozen=True)
class Request:
    """A prompt as token ids, and vLLM's `SamplingParams` for it."""

    tokens: Sequence[int]
    sampling: Any


_Put = Callable[[Piece | RagAppError], None]

_RUNNING: "set[EngineThread]" = set()


class EngineThread:
    """Owns the engine that `start` makes, from its first use until `close`.

    Parameters
    ----------
    start
        Makes the engine; called in the thread.
    timeout
        Seconds without a step after which takers give up.
    """

    def __init__(self, start: "Callable[[], vllm.LLM]", timeout: float) -> None:
        self._start = start
        self._timeout = timeout
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._takers: dict[str, tuple[_Put, int, int]] = {}
        self._completed: dict[str, int] = {}
        self._ids = itertools.count()
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._llm: vllm.LLM | None = None
        self._failure: RagAppError | None = None
        self._closing = False
        self._last_step = time.monotonic()

    @property
    def started(self) -> bool:
        """Whether the engine runs."""
        return self._llm is not None

    def engine(self) -> "vllm.LLM":
        """Return the engine, started if need be, for what is safe to read from any thread.

        Raises
        ------
        RagAppError
            If it could not be started, has failed, or was closed.
        """
        with self._lock:
            if self._closing:
                raise LLMError("the vLLM engine was closed", "build the LLM again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
                self._thread.start()
        while not self._ready.wait(POLL_SECONDS):  # a plain wait() would not see Ctrl-C on Windows
            pass
        if self._failure is not None:
            raise self._failure
        assert self._llm is not None  # noqa: S101
        return self._llm

    def ask(self, requests: Sequence[Request]) -> Generator[Piece, None, None]:
        """Have prompts answered, and yield pieces as they come; leaving early aborts the rest.

        Raises
        ------
        LLMError
            If the engine fails, or makes no step for `timeout` seconds.
        """
        self.engine()
        pieces: queue.SimpleQueue[Piece | RagAppError] = queue.SimpleQueue()
        names = self._submit(requests, pieces.put)
        unfinished = len(names)
        try:
            while unfinished:
                try:
                    piece = pieces.get(timeout=min(POLL_SECONDS, self._timeout))
                except queue.Empty:
                    self._check_alive()
                    continue
                if isinstance(piece, RagAppError):
                    raise piece
                unfinished -= piece.finish_reason is not None
                yield piece
        finally:
            if unfinished:
                self._inbox.put(lambda: self._abort(names))

    async def aask(self, requests: Sequence[Request]) -> AsyncGenerator[Piece, None]:
        """Do as `ask`, from an event loop and without blocking it."""
        await asyncio.to_thread(self.engine)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | RagAppError] = asyncio.Queue()

        def put(piece: Piece | RagAppError) -> None:
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:  # the loop was closed without the taker being told
                self._inbox.put(lambda: self._abort(names))

        names = self._submit(requests, put)
        unfinished = len(names)
        try:
            while unfinished:
                try:
                    async with asyncio.timeout(min(POLL_SECONDS, self._timeout)):
                        piece = await pieces.get()
                except TimeoutError:
                    self._check_alive()
                    continue
                if isinstance(piece, RagAppError):
                    raise piece
                unfinished -= piece.finish_reason is not None
                yield piece
        finally:
            if unfinished:
                self._inbox.put(lambda: self._abort(names))

    def unfinished(self) -> int:
        """Count the requests that the engine still works on."""
        return len(self._takers)

    def close(self) -> None:
        """Stop the engine and free its memory; unfinished requests fail. Does nothing twice."""
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._inbox.put(lambda: None)
            thread.join(CLOSE_SECONDS)

    def _submit(self, requests: Sequence[Request], put: _Put) -> list[str]:
        names = [str(next(self._ids)) for _ in requests]

        def add_all() -> None:
            for index, (name, request) in enumerate(zip(names, requests, strict=True)):
                self._add(name, index, request, put)

        if not self._takers:
            self._last_step = time.monotonic()  # the engine was idle, not stuck
        self._inbox.put(add_all)
        return names

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise LLMError("the vLLM engine was closed before it had answered")
        if (silent := time.monotonic() - self._last_step) > self._timeout:
            raise LLMError(
                f"the vLLM engine has made no step for {silent:.0f} seconds",
                "raise llm.timeout, or lower llm.engine.max_num_batched_tokens",
            )

    # What follows runs in the thread only.

    def _run(self) -> None:
        try:
            self._llm = self._start()
            _RUNNING.add(self)
        except RagAppError as error:
            self._failure = error
            return
        except BaseException as error:
            self._failure = LLMError(f"vLLM does not start: {error}")
            self._failure.__cause__ = error
            return
        finally:
            self._ready.set()
        try:
            while not self._closing:
                self._take_in()
                self._step()
        except Exception as error:
            self._failure = LLMError(
                f"the vLLM engine failed: {error or type(error).__name__}",
                "its log is on standard error; start again, with less of what it ran out of",
            )
            self._failure.__cause__ = error
        finally:
            self._fail_all(self._failure or LLMError("the vLLM engine was closed"))
            self._shut_down()

    def _take_in(self) -> None:
        """Do what was asked for; wait for something to do while the engine is idle."""
        if not self._takers:
            self._inbox.get()()
        while not self._closing:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return

    def _step(self) -> None:
        assert self._llm is not None  # noqa: S101
        if not self._takers:
            return
        outputs: list[Any] = self._llm.llm_engine.step()
        self._last_step = time.monotonic()
        for output in outputs:
            found = self._takers.get(output.request_id)
            if found is None:
                continue
            put, index, prompt_tokens = found
            answer: Any = output.outputs[0]
            # With DELTA only the new tokens are there; with FINAL_ONLY all of them.
            completed = self._completed[output.request_id] + len(answer.token_ids)
            self._completed[output.request_id] = completed
            if output.finished:
                self._forget(output.request_id)
            put(
                Piece(
                    index=index,
                    text=answer.text,
                    prompt_tokens=prompt_tokens,
                    cached_tokens=output.num_cached_tokens or 0,
                    completion_tokens=completed,
                    finish_reason=(answer.finish_reason or "stop") if output.finished else None,
                )
            )

    def _add(self, name: str, index: int, request: Request, put: _Put) -> None:
        from vllm.exceptions import VLLMClientError

        assert self._llm is not None  # noqa: S101
        self._takers[name] = (put, index, len(request.tokens))
        self._completed[name] = 0
        engine = self._llm.llm_engine
        try:
            (prompt,) = engine.renderer.render_cmpl([{"prompt_token_ids": list(request.tokens)}])
            engine.add_request(name, prompt, request.sampling)
        except (VLLMClientError, ValueError, TypeError) as error:
            self._forget(name)
            put(InputError(f"vLLM refuses the request: {error}", "change what the message names"))

    def _abort(self, names: Sequence[str]) -> None:
        if running := [name for name in names if name in self._takers]:
            for name in running:
                self._forget(name)
            assert self._llm is not None  # noqa: S101
            self._llm.llm_engine.abort_request(running)

    def _forget(self, name: str) -> None:
        self._takers.pop(name, None)
        self._completed.pop(name, None)

    def _fail_all(self, error: RagAppError) -> None:
        for put, _, _ in list(self._takers.values()):
            put(error)
        self._takers.clear()

    def _shut_down(self) -> None:
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
            del llm
        gc.collect()  # the engine has cycles, and its memory is wanted now
        _RUNNING.discard(self)
        if not _RUNNING:  # what is cleaned up here is shared by all engines of a process
            cleanup_dist_env_and_memory()
