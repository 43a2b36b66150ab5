"""What libraries say while they read a file: it goes into that file's report, not to the terminal.

`warnings.catch_warnings` changes the whole process, so that it would catch what other threads say
and lose what this one says. Here one listener is put in for good, and each file's reading, in
whatever thread, has a list of its own.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

_LOGGERS = ("pypdfium2", "bs4", "traitlets", "fontTools", "rag_app.documents.file_types")
"""Of the libraries that log (nbformat as "traitlets"), and of our own readers."""

_MOST = 20
"""Different messages kept of a file: a damaged one can bring thousands."""

_said: ContextVar[list[str] | None] = ContextVar("said", default=None)
_lock = Lock()


@contextmanager
def heard_by(said: list[str]) -> Iterator[None]:
    """Let a list take the warnings of this thread (context) while the block runs.

    Each is in one line and there once; those of other threads go where they went before.
    """
    _listen()
    token = _said.set(said)
    try:
        yield
    finally:
        _said.reset(token)


def _listen() -> None:
    """Put the listeners in, where they are not there (any more: pytest takes them out)."""
    with _lock:
        if not isinstance(warnings.showwarning, _Warnings):
            warnings.showwarning = _Warnings(warnings.showwarning)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            if not any(isinstance(handler, _Records) for handler in logger.handlers):
                logger.addHandler(_Records())
                # Or the root's handlers would print it as well; `_Records`
                # passes on what no reading caused.
                logger.propagate = False


class _Warnings:
    """In place of `warnings.showwarning`."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, message: Warning | str, *rest: Any, **more: Any) -> None:
        if (said := _said.get()) is None:
            self._before(message, *rest, **more)
        else:
            _keep(said, str(message))


class _Records(logging.Handler):
    """The handler of a library's logger; outside of a reading it passes on to the root's."""

    def emit(self, record: logging.LogRecord) -> None:
        if (said := _said.get()) is None:
            logging.getLogger().handle(record)
        elif record.levelno >= logging.WARNING:
            _keep(said, record.getMessage())


def _keep(said: list[str], message: str) -> None:
    line = " ".join(message.split())[:300]
    if line not in said and len(said) <= _MOST:
        said.append(line if len(said) < _MOST else "and more")
