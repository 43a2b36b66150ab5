"""One writer at a time in a collection of Milvus Lite, for as long as its work takes.

`lite_server` keeps single calls apart. Two ingests of one folder would still mix, each deleting
what it saw and the other did not; so a run has the collection for itself, and others wait. Searches
go on. Milvus servers are left to their users: nothing here waits for those.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from threading import Event
from typing import Any, TypeVar, cast

from rag_app.config.sections import Config, VectorStoreSection
from rag_app.errors import VectorStoreError
from rag_app.milvus.lite import prepare
from rag_app.milvus.lite_client import path_of
from rag_app.milvus.lite_locks import index_lock, turn, who_locks, write_lock
from rag_app.milvus.lite_shared import unusable
from rag_app.milvus.names import lite_target

ENOUGH = 60.0
"""Seconds that an ingest waits for another process's, which is mostly a file or two of `watch`."""

_LONGEST = 3600.0
"""Seconds for an index to be changed by another process."""

_QUIET = 1.0
"""Seconds of waiting that are not worth a word."""

_LOG = logging.getLogger("rag_app")

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def writing(
    section: VectorStoreSection,
    collection: str | None = None,
    *,
    patience: float = 0.0,
    stop: Event | None = None,
) -> Iterator[None]:
    """Be the only process, and the only thread, that writes to a collection.

    Parameters
    ----------
    collection
        None: the configured one.
    patience
        Seconds to wait for another one, if ``vector_store.lock_timeout`` is not more.
    stop
        When set, nobody waits any longer.

    Raises
    ------
    VectorStoreError
        If another one still writes after that; it names the process.
    """
    if not section.is_file:
        yield
        return
    # Before a lock is made in it: this says what is wrong with the path.
    prepare(Path(section.uri))
    name = collection or section.collection
    started = time.monotonic()
    told: list[str] = []

    def hold(file: Path) -> None:
        def goes_on() -> bool:
            if not told and time.monotonic() - started > _QUIET:
                told.append(who_locks(file) or "another process")
                _LOG.warning("waiting for %s, which writes to the collection %r", told[0], name)
            return stop is None or not stop.is_set()

        try:
            held.enter_context(turn(file, max(section.lock_timeout, patience), goes_on))
        except TimeoutError:
            raise VectorStoreError(
                f"the collection {name!r} in {section.uri} is being written to by "
                f"{who_locks(file) or 'another process or thread'}",
                "wait for it: --wait 600; searching goes on meanwhile",
            ) from None
        except OSError as error:
            raise unusable(Path(section.uri), error) from error

    # Not one ``with`` over all: an error of the work within is none of the lock.
    with ExitStack() as held:
        hold(write_lock(Path(section.uri), name))
        # An alias: who uses the collection's own name must wait as well. What it points to stays
        # so as long as its own lock is held.
        if (real := lite_target(section.uri, name)) != name:
            hold(write_lock(Path(section.uri), real))
        yield


def in_turn(patience: float = 0.0) -> Callable[[F], F]:
    """Let a function that writes to the configured collection wait for others that do.

    It takes the configuration first. A dry run, and a check that repairs nothing, does not wait.

    Parameters
    ----------
    patience
        As in `writing`.
    """

    def decorate(function: F) -> F:
        writes = "repair" not in signature(function).parameters

        @wraps(function)
        def call(config: Config, *arguments: Any, **settings: Any) -> Any:
            if settings.get("dry_run") or not settings.get("repair", writes):
                return function(config, *arguments, **settings)
            stop = settings.get("stop")
            with writing(config.vector_store, patience=patience, stop=stop):
                return function(config, *arguments, **settings)

        return cast(F, call)

    return decorate


@contextmanager
def changing_index(client: Any, collection: str) -> Iterator[None]:
    """Let searches of other processes wait while an index is not there."""
    path = path_of(client)
    if path is None:
        yield
        return
    with turn(index_lock(path, collection), _LONGEST):
        yield
