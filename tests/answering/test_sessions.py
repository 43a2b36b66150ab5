"""Conversations by name are kept for as long, and for as many, as configured."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer

from rag_app.answering.sessions import Session, SessionStore
from rag_app.config.chat import ChatSection
from rag_app.errors import SessionBusyError


def make_memory() -> ChatMemoryBuffer:
    return ChatMemoryBuffer.from_defaults(token_limit=100, tokenizer_fn=str.split)


class Clock:
    minutes = 0.0

    def __call__(self) -> float:
        return 60 * self.minutes


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_store(clock: Clock, sessions: int = 3, minutes: float = 10) -> SessionStore:
    section = ChatSection(max_sessions=sessions, max_idle_minutes=minutes)
    return SessionStore(section, make_memory, clock)


def say(session: Session, text: str) -> None:
    session.memory.put(ChatMessage(content=text))


def said(session: Session) -> list[str | None]:
    return [message.content for message in session.memory.get_all()]


def test_the_same_name_is_the_same_conversation(clock: Clock) -> None:
    store = make_store(clock)
    say(store.open("ann"), "hello")
    assert said(store.open("ann")) == ["hello"]
    assert said(store.open("bob")) == []
    store.forget("ann")
    store.forget("nobody")
    assert said(store.open("ann")) == []


def test_the_least_recently_used_one_goes_first(clock: Clock) -> None:
    store = make_store(clock)
    for name in ("ann", "bob", "cid", "ann", "dan"):
        say(store.open(name), name)
    assert len(store) == 3
    assert said(store.open("ann")) == ["ann", "ann"]
    assert said(store.open("bob")) == []


def test_what_was_silent_for_too_long_is_forgotten(clock: Clock) -> None:
    store = make_store(clock)
    say(store.open("ann"), "hello")
    clock.minutes = 9
    say(store.open("bob"), "hello")
    assert said(store.open("ann")) == ["hello"]
    clock.minutes = 20
    assert len(store) == 0
    assert said(store.open("ann")) == []


def test_a_conversation_at_a_question_is_not_forgotten(clock: Clock) -> None:
    store = make_store(clock, sessions=1)
    ann = store.open("ann")
    with ann.turn():
        clock.minutes = 100
        store.open("bob")
        assert store.open("ann") is ann
    store.open("bob")
    assert len(store) == 1


def test_a_second_question_at_once_is_refused() -> None:
    session = Session(make_memory(), "ann")
    with session.turn():
        assert session.is_busy
        with (
            pytest.raises(SessionBusyError, match="'ann' is at another question"),
            session.turn(),
        ):
            pass
    with session.turn():
        pass
    assert not session.is_busy


def test_threads_get_one_session_of_a_name(clock: Clock) -> None:
    store = make_store(clock, sessions=50)
    names = [f"name {number % 20}" for number in range(400)]
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(store.open, names))
    assert len({id(each) for each in opened}) == len(store) == 20
