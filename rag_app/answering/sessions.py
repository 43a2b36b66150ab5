"""Conversations by name: what was said is kept for as long, and for as many, as configured."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from llama_index.core.memory import ChatMemoryBuffer

from rag_app.config.chat import ChatSection
from rag_app.errors import SessionBusyError
from rag_app.llms import PackableLLM


def make_memory(llm: PackableLLM) -> ChatMemoryBuffer:
    """Return an empty LlamaIndex memory, counted in the LLM's own tokens.

    It holds half of what the window has besides the answer: the other half is for the question and
    the instruction to rewrite it.
    """
    metadata = llm.metadata
    return ChatMemoryBuffer.from_defaults(
        token_limit=(metadata.context_window - metadata.num_output) // 2,
        tokenizer_fn=lambda text: [0] * llm.count_tokens(text),  # only its length is looked at
    )


class Session:
    """One conversation: its memory, for one caller at a time.

    Parameters
    ----------
    name
        As messages say it; empty: it has none.
    """

    def __init__(self, memory: ChatMemoryBuffer, name: str = "") -> None:
        self.memory = memory
        self._name = name
        self._turn = Lock()  # no RLock, which only the thread that took it may release

    @property
    def is_busy(self) -> bool:
        """Whether a question of it is being answered."""
        return self._turn.locked()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep others out while a question is answered; may end in another thread.

        Raises
        ------
        SessionBusyError
            If another one is being answered: its answer belongs before this question.
        """
        if not self._turn.acquire(blocking=False):
            raise SessionBusyError(
                f"the conversation {self._name!r} is at another question"
                if self._name
                else "this conversation is at another question",
                "wait for its answer, or give each caller a session of its own",
            )
        try:
            yield
        finally:
            self._turn.release()


class SessionStore:
    """Sessions by name, the least recently used ones forgotten first. Safe for threads.

    Parameters
    ----------
    section
        The configuration's ``[chat]``.
    make
        Makes the memory of a new conversation.
    clock
        Tells seconds.
    """

    def __init__(
        self,
        section: ChatSection,
        make: Callable[[], ChatMemoryBuffer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section = section
        self._make = make
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        with self._lock:
            self._forget_some()
            return len(self._sessions)

    def open(self, name: str) -> Session:
        """Return the conversation of this name; one that is not there, or no more, begins anew."""
        memory = None if name in self._sessions else self._make()  # may ask a server for its window
        with self._lock:
            self._forget_some()
            kept, _ = self._sessions.pop(name, (None, 0.0))
            session = kept or Session(memory or self._make(), name)
            self._sessions[name] = session, self._clock()
            self._forget_some()
            return session

    def forget(self, name: str) -> None:
        """Forget a conversation; nothing if it is not there."""
        with self._lock:
            self._sessions.pop(name, None)

    def _forget_some(self) -> None:
        """Forget those that were silent for too long, and the oldest of too many; no busy one."""
        oldest_allowed = self._clock() - 60 * self._section.max_idle_minutes
        too_many = len(self._sessions) - self._section.max_sessions
        for name, (session, used) in list(self._sessions.items()):
            # They stand in the order of their use: those behind this one are younger.
            if used >= oldest_allowed and too_many <= 0:
                return
            if not session.is_busy:
                del self._sessions[name]
                too_many -= 1
