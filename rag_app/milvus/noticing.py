"""What other processes do to an open collection: noticed, read again, or said."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from rag_app.config.index_types import Index
from rag_app.config.sections import VectorStoreSection
from rag_app.errors import CollectionChangedError, VectorStoreError
from rag_app.milvus.chosen import CHOSEN
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.made_by import MADE_BY

T = TypeVar("T", bound=Collection[Any])

LOOK_SECONDS = 1.0
"""How often an open collection is looked at, when it is searched: 2 ms each time. A collection that
was made anew by another model, and an index of another metric, make searches wrong without an
error."""

ABANDONED = 2.0
"""Seconds that a collection of a server stays released, with its index, before it is loaded here:
who changes an index releases it for a moment, and cannot drop the index of one that is loaded."""

_PAUSE = 0.1
"""Seconds between two looks at a collection that is being changed."""


@dataclass(frozen=True)
class _Seen:
    """What searches rely on."""

    collection: tuple[int, str]
    chosen: str
    index: Index | None
    is_loaded: bool


class Noticing:
    """Looks, for all that search an open collection, whether it still is what was opened.

    Parameters
    ----------
    reopen
        Opens it again, for all that hold it.
    """

    def __init__(
        self, section: VectorStoreSection, index: DenseIndex, reopen: Callable[[], None]
    ) -> None:
        self._section = section
        self._index = index
        self._reopen = reopen
        self._lock = Lock()
        self._changes = 0
        self._seen = self._look()
        self._looked = time.monotonic()

    def searching(self, search: Callable[[], T]) -> T:
        """Search; where that fails because another process changed the collection, once more.

        Parameters
        ----------
        search
            Returns what was found for each question.

        Raises
        ------
        CollectionChangedError
            If the collection is not there any more, or another process is still at it.
        CollectionMismatchError
            If it was made anew by another configuration.
        VectorStoreError
            If Milvus fails.
        """
        changes = self._changes
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._notice(changes)
        # Before the search: what another thread notices meanwhile concerns this one.
        changes = self._changes
        try:
            found = search()
        except VectorStoreError:
            if not self._notice(changes):
                raise
            return search()
        # A server finds nothing in a collection that is released at that moment, without an error.
        return found if any(found) or not self._notice(changes) else search()

    def close(self) -> None:
        """Give its connection back."""
        self._index.client.close()

    def _notice(self, changes: int) -> bool:
        """Look, and open what has changed again; return whether that was so since `changes`."""
        with self._lock:
            if self._changes != changes:  # another thread did
                return True
            try:
                now = self._look()
            except CollectionChangedError:
                raise
            except VectorStoreError:  # Milvus does not answer: the search itself will say it
                return False
            self._looked = time.monotonic()
            if now == self._seen:
                return False
            # Who changes an index of a file holds a lock that opening it again waits for.
            if not self._section.is_file:
                self._wait_until_usable()
            self._reopen()
            # Not ``now``: opening loads it, and may have built its index.
            self._seen = self._look()
            self._changes += 1
            return True

    def _look(self) -> _Seen:
        section, client = self._section, self._index.client
        try:
            if not client.has_collection(section.collection, timeout=section.timeout):
                raise CollectionChangedError(
                    f"the collection {section.collection!r} in {section.uri} is gone: another "
                    "process dropped or renamed it since it was opened",
                    "see what is there: rag-app collections list; or ingest again",
                )
            described = client.describe_collection(section.collection, timeout=section.timeout)
            properties = dict(described.get("properties", {}))
            return _Seen(
                (described.get("collection_id", 0), properties.get(MADE_BY, "")),
                properties.get(CHOSEN, ""),
                self._index.read(),
                self._index.is_loaded(),
            )
        except FAILURES as error:
            raise as_store_error(error, section.uri) from error

    def _wait_until_usable(self) -> None:
        """Wait while another process changes the index, ``vector_store.timeout`` at most."""
        until = time.monotonic() + self._section.timeout
        released_since = time.monotonic()
        while True:
            now = self._look()
            if now.index is not None and (now.is_loaded or self._index.is_built()):
                if now.is_loaded or time.monotonic() - released_since > ABANDONED:
                    return
            else:
                released_since = time.monotonic()
            if time.monotonic() > until:
                raise CollectionChangedError(
                    f"another process is changing the index of {self._section.collection!r} in "
                    f"{self._section.uri}, for more than {self._section.timeout:g} s",
                    "ask again later: rag-app index show tells how far it is",
                )
            time.sleep(_PAUSE)
