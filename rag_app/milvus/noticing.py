"""What other processes do to an open collection: noticed, read again, or said."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import Any, Generic, Protocol, Self, TypeVar

from pymilvus import MilvusClient

from rag_app.config.index_types import Index
from rag_app.config.sections import EmbeddingSection, VectorStoreSection
from rag_app.errors import CollectionChangedError, RagAppError, VectorStoreError
from rag_app.milvus.chosen import CHOSEN
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.made_by import MADE_BY
from rag_app.milvus.names import alias_target, real_name

T = TypeVar("T", bound=Collection[Any])
S = TypeVar("S", bound="Searched")

LOOK_SECONDS = 0.5
"""How often an open collection is looked at, when it is searched: 2 ms each time. A collection that
was made anew by another model, and an index of another metric, make searches wrong without an
error; a name that means another collection by now is to be followed within a second."""

ABANDONED = 2.0
"""Seconds that a collection of a server stays released, with its index, before it is loaded here:
who changes an index releases it for a moment, and cannot drop the index of one that is loaded."""

_PAUSE = 0.1
"""Seconds between two looks at a collection that is being changed."""

_LOG = logging.getLogger("rag_app")


@dataclass(frozen=True)
class _Seen:
    """What searches rely on."""

    name: str
    collection: tuple[int, str]
    chosen: str
    index: Index | None
    is_loaded: bool


class Searched(Protocol):
    """An open collection, as far as it is to be known here."""

    collection_name: str

    @property
    def client(self) -> MilvusClient:
        """Its connection."""

    @property
    def embedding(self) -> EmbeddingSection:
        """What embeds questions for it."""

    def become(self, other: Self) -> None:
        """Search as another one does, that opened the same collection later."""

    def notice(self, noticing: "Noticing[Any]") -> None:
        """Have changes noticed."""


class Noticing(Generic[S]):
    """Looks, for all that search an open collection, whether it still is what was opened.

    Where its name means another collection by now, that one is opened beside it, and questions go
    there once it is ready; those that run end where they began.

    Parameters
    ----------
    section
        With the name by which the collection is meant.
    opened
        The collection, as it is open now.
    reopen
        Opens what the name means, again.

    Attributes
    ----------
    prepare
        Is called with another collection before questions go there.
    """

    def __init__(
        self,
        section: VectorStoreSection,
        opened: S,
        index: DenseIndex,
        reopen: Callable[[], tuple[S, DenseIndex]],
    ) -> None:
        self.prepare: Callable[[S], object] = lambda _: None
        self._section = section
        self._current = opened
        self._index = index
        self._reopen = reopen
        self._lock = Lock()
        self._opening: Thread | None = None
        self._lost: set[str] = set()
        self._is_closed = False
        self._changes = 0
        self._seen = self._look()
        self._looked = time.monotonic()

    def now(self) -> S:
        """Return the collection that questions go to now.

        Raises
        ------
        CollectionChangedError, CollectionMismatchError, VectorStoreError
            As `searching`.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._notice(self._changes)
        return self._current

    def searching(self, store: S, search: Callable[[S], T]) -> T:
        """Search; where that fails because another process changed the collection, once more.

        Parameters
        ----------
        store
            Which is asked; once it is gone, what its name means, if the same model embedded that.
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
        self.now()
        if store.collection_name in self._lost:
            store = self._instead_of(store)
        # Before the search: what another thread notices meanwhile concerns this one.
        changes = self._changes
        try:
            found = search(store)
        except VectorStoreError:
            is_current = store.collection_name == self._current.collection_name
            if not self._notice(changes) and is_current:
                raise
            return search(self._instead_of(store))
        # A server finds nothing in a collection that is released at that moment, without an error.
        if any(found) or not self._notice(changes):
            return found
        return search(self._instead_of(store))

    def _instead_of(self, store: S) -> S:
        if store.collection_name == self._current.collection_name:
            return store
        if store.embedding != self._current.embedding:
            raise CollectionChangedError(
                f"the collection {store.collection_name!r} in {self._section.uri} is gone, and "
                f"{self._section.collection!r} means one of another model by now",
                "ask again",
            )
        return self._current

    def close(self) -> None:
        """Give its connections back."""
        self._is_closed = True
        for client in (self._index.client, self._current.client):
            client.close()

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
            is_another = now.name != self._seen.name
            if is_another and self._is_there(self._seen.name):
                self._follow()
                return False
            if not self._section.is_file:  # whose changes of an index others wait for as it is
                self._wait_until_usable()
            store, index = self._reopen()
            if is_another:
                self._lost.add(self._seen.name)
                self.prepare(store)
                self._go_to(store, index)
            else:
                self._current.become(store)
            # Not ``now``: opening loads it, and may have built its index.
            self._seen = self._look_again()
            self._changes += 1
            return True

    def _follow(self) -> None:
        """Open what the name means now, beside what questions are answered from meanwhile."""
        if self._opening is not None and self._opening.is_alive():
            return

        def work() -> None:
            try:
                store, index = self._reopen()
                self.prepare(store)
                with self._lock:
                    self._go_to(store, index)
                    self._seen = self._look_again()
                    self._changes += 1
            except RagAppError as error:
                if self._is_closed:
                    return
                _LOG.warning(
                    "%s means another collection now, which cannot be searched here: %s",
                    self._section.collection,
                    error,
                )

        self._opening = Thread(target=work, daemon=True, name="rag_app following an alias")
        self._opening.start()

    def _go_to(self, store: S, index: DenseIndex) -> None:
        store.notice(self)
        self._current, self._index = store, index

    def _look_again(self) -> _Seen:
        """Look after opening; the name may mean yet another collection by now."""
        return replace(self._look(), name=self._current.collection_name)

    def _is_there(self, name: str) -> bool:
        """Whether there is a collection of this very name; an alias means anything."""
        client, timeout = self._index.client, self._section.timeout
        try:
            is_alias = bool(alias_target(client, name, timeout))
            return not is_alias and bool(client.has_collection(name, timeout=timeout))
        except FAILURES as error:
            raise as_store_error(error, self._section.uri) from error

    def _look(self) -> _Seen:
        section, client = self._section, self._index.client
        try:
            name = real_name(client, section)
            if name is None:
                raise CollectionChangedError(
                    f"the collection {section.collection!r} in {section.uri} is gone: another "
                    "process dropped or renamed it since it was opened",
                    "see what is there: rag-app collections list; or ingest again",
                )
            described = client.describe_collection(name, timeout=section.timeout)
            properties = dict(described.get("properties", {}))
            index = self._index
            if name != index.collection:
                index = index.of(name)
            return _Seen(
                name,
                (described.get("collection_id", 0), properties.get(MADE_BY, "")),
                properties.get(CHOSEN, ""),
                index.read(),
                index.is_loaded(),
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
