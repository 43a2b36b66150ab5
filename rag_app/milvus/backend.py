"""Which Milvus answers, and what it can do: found out once per connection, asked by all.

Milvus Lite runs in this process (its URI is a path), or shared, as a server of its own
(``milvus-lite server``, reached by http): that speaks Lite's dialect, and has no files to look at.
"""

import re
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from pymilvus import MilvusClient

_LITE = "milvus_lite"
"""What the version of Milvus Lite starts with; a Milvus server's is like "v2.3.5"."""

_FIRST_WITH_WORDS = (2, 5)
"""The first version of a Milvus server that counts words (Milvus docs, "Full Text Search")."""

_FIRST_WITH_ALIASES_LISTED = (2, 4)
"""The first that lists aliases (Milvus docs, "Release Notes")."""

_known: WeakKeyDictionary[Any, "Backend"] = WeakKeyDictionary()


@dataclass(frozen=True)
class Backend:
    """A Milvus, and what it can do.

    Attributes
    ----------
    uri
        Where it answers; a path: Milvus Lite in this process.
    version
        As it tells it: "milvus_lite-3.2.2", "v2.3.5-lite" (a server), "v2.6.0".
    """

    uri: str
    version: str

    def __str__(self) -> str:
        if self.is_lite:
            return f"Milvus Lite {self.version.removeprefix(_LITE).lstrip('-')}"
        return f"Milvus server {self.version}"

    @property
    def is_lite(self) -> bool:
        """Whether it is Milvus Lite, in this process or shared."""
        return self.version.startswith(_LITE)

    @property
    def has_files(self) -> bool:
        """Whether its files are at hand: it is Milvus Lite, and its URI is a path."""
        return self.is_lite and "://" not in self.uri

    @property
    def counts_words(self) -> bool:
        """Whether it searches by words (BM25), so that text and hybrid search are there."""
        return self.is_lite or self._is_at_least(_FIRST_WITH_WORDS)

    @property
    def nests_params(self) -> bool:
        """Whether it reads parameters of an index in a table of their own, and nowhere else."""
        return self.is_lite

    @property
    def builds_on_load(self) -> bool:
        """Whether an index is built within the call that loads the collection."""
        return self.is_lite

    @property
    def insert_replaces(self) -> bool:
        """Whether an insert replaces the row of that id, and all of it.

        Lite's upsert keeps what the old row has and the new one has not. A server's insert would
        write the row twice, and its upsert replaces.
        """
        return self.is_lite

    @property
    def finds_parts_of_text(self) -> bool:
        """Whether a filter can ask if a text contains another."""
        return self.is_lite

    @property
    def lists_aliases(self) -> bool:
        """Whether it can be asked for the aliases of a collection; else describing it tells."""
        return self.is_lite or self._is_at_least(_FIRST_WITH_ALIASES_LISTED)

    def name_to_drop(self, field: str, index: str) -> str:
        """Return the name by which one index is dropped: for Lite most names mean all."""
        return f"{field}_idx" if self.is_lite else index

    def _is_at_least(self, first: tuple[int, int]) -> bool:
        numbers = re.match(r"v?(\d+)\.(\d+)", self.version)
        # A build from source says "master-…": as new as can be.
        return numbers is None or (int(numbers[1]), int(numbers[2])) >= first


def backend_of(client: MilvusClient, uri: str, timeout: float) -> Backend:
    """Tell which Milvus a client is connected to. The first time, it is asked for its version."""
    if client not in _known:
        _known[client] = Backend(uri, str(client.get_server_version(timeout=timeout)))
    return _known[client]
