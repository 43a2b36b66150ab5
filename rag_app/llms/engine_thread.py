"""The thread that owns a vLLM engine: requests come in by a queue, pieces of answers go out.

vLLM's engine is not safe for threads, and batches only what is handed to it between two steps. So
one thread does everything that touches it, and any number of threads and event loops ask that one
(`rag_app.llms.shared_engine`).
"""

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_app.errors import InputError, LLMError, RagAppError
from rag_app.llms.engine_process import check_not_forked, forked, starting, stopping
from rag_app.llms.engine_prompts import EnginePrompts
from rag_app.llms.engine_requests import Piece, Put, Request, again, closed, unanswered

if TYPE_CHECKING:
    import vllm

POLL_SECONDS = 1.0
"""How often a waiting taker looks whether the engine still makes steps."""

CLOSE_SECONDS = 30.0
"""How long `EngineThread.close` waits for the step that is being made."""


@dataclass
class _Taker:
    """Who waits for a request's pieces, and what it had so far."""

    put: Put
    owner: object
    index: int
    prompt_tokens: int
    completion_tokens: int = 0
    is_counted: bool = False


class EngineThread:
    """Owns the engine that `start` makes, from its first use until `close`.

    Parameters
    ----------
    start
        Makes the engine; called in the thread.
    """

    def __init__(self, start: "Callable[[], vllm.LLM]") -> None:
        self._start = start
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._takers: dict[str, _Taker] = {}
        self._ids = itertools.count()
        self._ready = threading.Event()
        self._waiting: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._llm: vllm.LLM | None = None
        self._prompts: EnginePrompts | None = None
        self._failure: RagAppError | None = None
        self._closing = False
        self._last_step = time.monotonic()
        self._looked_up = self._found = 0

    @property
    def is_usable(self) -> bool:
        """Whether it runs or can still be started."""
        return self._failure is None and not self._closing

    @property
    def is_running(self) -> bool:
        """Whether it was started and takes requests."""
        # Both, since the thread sets one after the other.
        return self._llm is not None and self._prompts is not None and self.is_usable

    @property
    def prompts(self) -> EnginePrompts:
        """Tokenizer and template of the engine, as soon as that runs."""
        assert self._prompts is not None  # noqa: S101 - made in the same step as the engine
        return self._prompts

    @property
    def prefix_cache(self) -> tuple[int, int]:
        """How many prompt tokens were looked up in the prefix cache so far, and found.

        vLLM's own counters are those of the engine that was started last in the process.
        """
        return self._looked_up, self._found

    def start(self, ready: Callable[[], None] | None = None) -> None:
        """Begin to start the engine, if nobody has yet.

        Parameters
        ----------
        ready
            Called, from any thread, as soon as `engine` does not wait any more.

        Raises
        ------
        LLMError
            If it was closed, or runs in the process that this one was forked from.
        """
        if self._process not in {None, os.getpid()}:
            raise forked()
        check_not_forked()
        with self._lock:
            if self._closing:
                raise closed()
            if self._thread is None:
                self._process = os.getpid()
                # A daemon: for others Python waits before the finalizers that would stop it run.
                self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
                self._thread.start()
            if ready is not None and not self._ready.is_set():
                self._waiting.append(ready)
                return
        if ready is not None:
            ready()

    def engine(self) -> "vllm.LLM":
        """Return the engine, started if need be, for what is safe to read from any thread.

        Raises
        ------
        RagAppError
            If it could not be started, has failed, was closed, or runs in the process that this
            one was forked from.
        """
        self.start()
        while not self._ready.wait(POLL_SECONDS):  # a plain wait() would not see Ctrl-C on Windows
            pass
        # Read before the failure, which the thread notes before it unsets the engine: so one that
        # failed is never taken for one that was closed.
        llm = self._llm
        if self._failure is not None:
            raise again(self._failure)
        if llm is None:
            raise closed()
        return llm

    def submit(self, requests: Sequence[Request], put: Put, owner: object) -> list[str]:
        """Have prompts answered, the pieces handed to `put`; return the requests' names."""
        names = [str(next(self._ids)) for _ in requests]

        def add_all() -> None:
            for index, (name, request) in enumerate(zip(names, requests, strict=True)):
                self._add(name, request, _Taker(put, owner, index, len(request.tokens)))

        if not self._takers:
            self._last_step = time.monotonic()  # the engine was idle, not stuck
        self._inbox.put(add_all)
        return names

    def abort(self, names: Sequence[str]) -> None:
        """Stop working on requests; nobody waits for them any more."""
        self._inbox.put(lambda: self._abort(names))

    def leave(self, owner: object) -> None:
        """Abort the requests of one owner, and tell those that wait for them."""

        def leave() -> None:
            names = [name for name, taker in self._takers.items() if taker.owner is owner]
            takers = [self._takers[name] for name in names]
            self._abort(names)
            for taker in takers:
                taker.put(closed())

        self._inbox.put(leave)

    def unfinished(self) -> int:
        """Count the requests that the engine still works on."""
        return len(self._takers)

    def check(self, timeout: float) -> None:
        """Raise if there is nothing to wait for: it failed, was closed, or makes no steps."""
        if self._failure is not None:
            raise again(self._failure)
        if self._closing:
            raise closed()
        if (silent := time.monotonic() - self._last_step) > timeout:
            raise LLMError(
                f"the vLLM engine has made no step for {silent:.0f} seconds",
                "raise llm.timeout, or lower llm.engine.max_num_batched_tokens",
            )

    def close(self) -> None:
        """Stop the engine and free its memory; unfinished requests fail. Does nothing twice."""
        if self._process not in {None, os.getpid()}:
            return
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._inbox.put(lambda: None)  # wakes it, if it waits for a request
            thread.join(CLOSE_SECONDS)

    # What follows runs in the thread only.

    def _run(self) -> None:
        try:
            with starting(self):
                self._llm = self._start()
                self._prompts = EnginePrompts(self._llm)
        except BaseException as error:  # whatever it is, those who wait have to be told
            self._failure = _told(error, f"vLLM does not start: {error}")
            if self._llm is not None:  # started, but nothing can be asked of it
                self._shut_down()
            return
        finally:
            # Under the lock, so that `start` adds to the list in time or sees that it is too late.
            with self._lock:
                self._ready.set()
                waiting, self._waiting = self._waiting, []
            # Outside of it, since this is the code of others.
            for ready in waiting:
                ready()
        try:
            while not self._closing:
                self._take_in()
                self._step()
        except BaseException as error:  # also what would only end this thread, e.g. SystemExit
            self._failure = _told(
                error,
                f"the vLLM engine failed: {str(error) or type(error).__name__}",
                "its log is on standard error; build the LLM again, with less of what it ran out "
                "of",
            )
        finally:
            self._fail_all()
            self._shut_down()

    def _take_in(self) -> None:
        """Do what was asked for; wait for something to do while the engine is idle."""
        if not self._takers:
            self._inbox.get()()
        # All of it, since vLLM batches only what it has been handed before a step.
        while not self._closing:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return

    def _step(self) -> None:
        if not self._takers:
            return
        outputs: list[Any] = self._own().llm_engine.step()
        self._last_step = time.monotonic()
        for output in outputs:
            taker = self._takers.get(output.request_id)
            if taker is None:
                continue
            answer: Any = output.outputs[0]
            # With DELTA only the new tokens are there; with FINAL_ONLY all of them.
            taker.completion_tokens += len(answer.token_ids)
            cached = int(output.num_cached_tokens or 0)
            # Once a request: vLLM tells its cached tokens with each of its steps.
            if not taker.is_counted:
                taker.is_counted = True
                self._looked_up += taker.prompt_tokens
                self._found += cached
            if output.finished:
                del self._takers[output.request_id]
            if answer.finish_reason in {"error", "abort"}:
                taker.put(unanswered(answer.finish_reason))
                continue
            taker.put(
                Piece(
                    index=taker.index,
                    text=answer.text,
                    prompt_tokens=taker.prompt_tokens,
                    cached_tokens=cached,
                    completion_tokens=taker.completion_tokens,
                    finish_reason=(answer.finish_reason or "stop") if output.finished else None,
                    tokens=answer.token_ids,
                    logprobs=answer.logprobs,
                )
            )

    def _add(self, name: str, request: Request, taker: _Taker) -> None:
        self._takers[name] = taker
        engine = self._own().llm_engine
        given: dict[str, Any] = {"prompt_token_ids": list(request.tokens)}
        if request.cache_salt:
            given["cache_salt"] = request.cache_salt
        try:
            (prompt,) = engine.renderer.render_cmpl([given])
            engine.add_request(name, prompt, request.sampling, lora_request=request.lora)
        except Exception as error:  # vLLM raises whatever it stumbles over; it is this request's
            del self._takers[name]
            with suppress(Exception):
                engine.abort_request([name])
            said = str(error) or "it says nothing more"
            refused = InputError(
                f"vLLM refuses the request: {type(error).__name__}: {said}",
                "change what the message names, in the call or in llm.sampling",
            )
            refused.__cause__ = error
            # In a piece: a bare error would end all requests that were asked together.
            taker.put(Piece(taker.index, "", taker.prompt_tokens, 0, 0, "refused", error=refused))

    def _abort(self, names: Sequence[str]) -> None:
        running = [name for name in names if self._takers.pop(name, None) is not None]
        if running:
            self._own().llm_engine.abort_request(running)

    def _own(self) -> "vllm.LLM":
        assert self._llm is not None  # noqa: S101 - only the thread itself unsets it
        return self._llm

    def _fail_all(self) -> None:
        for taker in self._takers.values():
            taker.put(again(self._failure) if self._failure else closed())
        self._takers.clear()

    def _shut_down(self) -> None:
        with stopping(self):
            llm, self._llm = self._llm, None
            if llm is not None:
                llm.llm_engine.engine_core.shutdown()
                del llm  # `stopping` collects the engine, which no name may hold by then


def _told(error: BaseException, message: str, remedy: str = "") -> RagAppError:
    """Return what those who wait for the engine are told of an error."""
    if isinstance(error, RagAppError):
        return error
    told = LLMError(message, remedy)
    told.__cause__ = error
    return told
