"""Questions that are asked at the same time are answered in one call, whoever asks."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

from rag_app.errors import ClosedError, ServiceError

Q = TypeVar("Q")
A = TypeVar("A")

MOST_TOGETHER = 32
"""Questions in a call: none waits for longer than such a call and its own. On a processor more are
embedded no faster per question than these (MiniLM)."""


class Gathering(Generic[Q, A]):
    """Answers questions from any thread in calls of many.

    While one call runs, the questions of the next one gather: a lone question waits for nothing.
    (To wait for more before a call begins made it slower.) Questions of different kinds never share
    a call; calls of different kinds run beside each other.

    Parameters
    ----------
    name
        Of the threads, which `close` gives back.
    threads
        How many calls run at the same time.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._waiting: dict[Hashable, deque[tuple[Q, Future[A]]]] = defaultdict(deque)
        self._running: set[Hashable] = set()
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._is_closed = False

    def join(
        self, question: Q, answer: Callable[[Sequence[Q]], Sequence[A]], kind: Hashable = None
    ) -> Future[A]:
        """Return the answer to come.

        Parameters
        ----------
        answer
            Answers many questions of this kind, each in its place; it is what the call is. Where it
            fails the questions are asked one by one, as each has its own error; not so where a
            service fails, as it would for each.

        Raises
        ------
        ClosedError
            After `close`; those that wait end in it as well.
        """
        joined: Future[A] = Future()
        with self._lock:
            if self._is_closed:
                raise ClosedError
            self._waiting[kind].append((question, joined))
            if kind not in self._running:
                self._running.add(kind)
                self._threads.submit(self._run, answer, kind)
        return joined

    def close(self, *, wait: bool = True) -> None:
        """Answer no question any more.

        Parameters
        ----------
        wait
            For the calls that run, as well as for threads without one.
        """
        with self._lock:
            self._is_closed = True
            wait = wait or not self._running
            for waiting in self._waiting.values():
                for _, left in waiting:
                    if left.set_running_or_notify_cancel():
                        left.set_exception(ClosedError())
            self._waiting.clear()
        # Without the lock, which the calls under way take once more before they end.
        self._threads.shutdown(wait=wait)

    def _run(self, answer: Callable[[Sequence[Q]], Sequence[A]], kind: Hashable) -> None:
        with self._lock:
            waiting = self._waiting[kind]
            taken = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
        # Who asked may have gone: a cancelled one takes no answer, and setting it would fail.
        wanted = [each for each in taken if each[1].set_running_or_notify_cancel()]
        if wanted:
            _answer(wanted, answer)
        with self._lock:
            # Within the lock, or one that joins just now would wait for a call that never comes.
            if self._waiting[kind]:
                # At the end of the queue: other kinds have their turn.
                self._threads.submit(self._run, answer, kind)
            else:
                # Kinds are without number: none is kept.
                del self._waiting[kind]
                self._running.discard(kind)


def _answer(
    questions: Sequence[tuple[Q, Future[A]]], answer: Callable[[Sequence[Q]], Sequence[A]]
) -> None:
    try:
        answers = answer([question for question, _ in questions])
        if len(answers) != len(questions):
            raise ValueError(f"{len(answers)} answers came to {len(questions)} questions")
    except BaseException as error:  # nobody else would hear of it
        if len(questions) > 1 and not isinstance(error, ServiceError):
            for each in questions:
                _answer([each], answer)
            return
        for _, joined in questions:
            joined.set_exception(error)
    else:
        for (_, joined), found in zip(questions, answers, strict=True):
            joined.set_result(found)
