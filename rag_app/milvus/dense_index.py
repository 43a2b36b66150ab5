"""The index over a collection's vectors: what is built, and building another one over the rows.

Only the index of `VECTOR_FIELD` is touched; a collection may have others, and their rows stay.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from rag_app.config.index_types import Index, Value, build_params, search_params
from rag_app.config.sections import Config
from rag_app.errors import VectorStoreError
from rag_app.milvus.backend import Backend
from rag_app.milvus.errors import FAILURES, is_timeout, message_of
from rag_app.milvus.pages import pages
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.writing import changing_index

PATIENCE = 600.0
"""Seconds without progress after which building or loading on a server is given up."""

ROW_PATIENCE = 0.05
"""Seconds more, for each row, that Milvus Lite has to build an index, which shows no progress: 30
times what HNSW over 384 dimensions took on two busy processors."""

BEGIN = 30.0
"""Seconds in which a server begins to load a collection."""

_MOST_ROWS = 16_384
"""That Milvus gives out in one call."""

_BLOCK = 32_000_000
"""Bytes of vectors that are read in one call; Milvus takes messages of up to 64 MB."""

_LOG = logging.getLogger("rag_app")


def configured_index(config: Config, backend: Backend) -> Index:
    """Tell the index that a configuration asks for, of the Milvus that is there.

    Build parameters that follow the number of rows are in it only if they are configured.
    """
    index = config.index
    params = build_params(index.type, index.params, lite=backend.is_lite)
    return Index(index.type, index.metric, params)


class DenseIndex:
    """The index of one collection, on Milvus Lite or on a server.

    Parameters
    ----------
    backend
        Which Milvus runs behind the client.
    timeout
        Seconds for each call. Building and loading take as long as they go on.
    """

    def __init__(
        self, client: MilvusClient, collection: str, *, backend: Backend, timeout: float
    ) -> None:
        self.client = client
        self.backend = backend
        self._timeout = timeout
        self.collection = collection
        self._names = {"collection_name": collection, "timeout": timeout}

    def of(self, collection: str) -> "DenseIndex":
        """Return the index of another collection there."""
        return DenseIndex(self.client, collection, backend=self.backend, timeout=self._timeout)

    def count(self) -> int:
        """Count the collection's rows; on a server that is exact only if it is loaded."""
        if (
            self.backend.is_lite or not self.is_loaded()
        ):  # a server's statistics still have deleted rows
            return int(self.client.get_collection_stats(**self._names)["row_count"])
        counted = self.client.query(filter="", output_fields=["count(*)"], **self._names)
        return int(counted[0]["count(*)"])

    def dimension(self) -> int:
        """Return the length of the vectors."""
        fields = self.client.describe_collection(**self._names)["fields"]
        field = next(field for field in fields if field["name"] == VECTOR_FIELD)
        return int(field["params"]["dim"])

    def properties(self) -> dict[str, str]:
        """Return the collection's properties."""
        return dict(self.client.describe_collection(**self._names).get("properties", {}))

    def keep(self, properties: Mapping[str, str]) -> None:
        """Write properties of the collection; its others stay."""
        self.client.alter_collection_properties(properties=dict(properties), **self._names)

    def describe(self) -> dict[str, Any]:
        """Return what Milvus tells of the index; empty if there is none."""
        names = self.client.list_indexes(field_name=VECTOR_FIELD, **self._names)
        if not names:  # asked by a name that is not there, Lite describes another field's index
            return {}
        return dict(self.client.describe_index(index_name=names[0], **self._names) or {})

    def read(self) -> Index | None:
        """Read back the index that is there: its type, metric and build parameters."""
        described = self.describe()
        if not described:
            return None
        # Lite keeps the parameters nested, as it was given them; a server keeps them flat.
        params = {**described, **(described.get("params") or {})}
        return Index.read(described["index_type"], described["metric_type"], params)

    def build(self, wanted: Index, patience: float = PATIENCE) -> None:
        """Create the index over a released collection that has none, and wait until it is built.

        On Milvus Lite that happens when it is loaded.

        Parameters
        ----------
        patience
            Seconds without progress after which a server is given up.
        """
        index = self.client.prepare_index_params()
        # pymilvus sends ``params`` flat, as a server reads them; Lite reads only nested ones, and
        # takes its defaults for what it does not find.
        nested = {"params": dict(wanted.params)}
        params = nested if self.backend.nests_params else _as_text(wanted.params)
        index.add_index(
            VECTOR_FIELD,
            index_type=wanted.type,
            index_name=VECTOR_FIELD,
            metric_type=wanted.metric,
            params=params,
        )
        # Not ``sync``: pymilvus would wait without end for a server that stands still.
        self._call("create_index", f"building {wanted}", index_params=index, sync=False)
        if not self.backend.builds_on_load:
            self._wait_for(f"building {wanted}", self._built_rows, patience)

    def is_built(self) -> bool:
        """Whether the index is there, and nothing of it is being built."""
        described = self.describe()
        return bool(described) and described.get("state", "Finished") == "Finished"

    def _call(self, method: str, what: str, **arguments: Any) -> None:
        """Make a call within which Milvus Lite builds: it takes as long as that takes.

        Lite fails the call where it cannot build, and calls every index finished. One that is never
        done cannot be stopped from here: it goes on in the process that has the database.
        """
        names, call = dict(self._names), getattr(self.client, method)
        if not self.backend.builds_on_load:
            call(**names, **arguments)
            return
        names["timeout"] = patience = PATIENCE + ROW_PATIENCE * self.count()
        try:
            call(**names, **arguments)
        except FAILURES as error:
            if not is_timeout(error):
                raise
            raise MilvusException(
                message=f"{what} is not done after {patience:.0f} s, and Milvus Lite cannot be "
                'stopped; end the process, and try index.type = "FLAT", which builds nothing'
            ) from error

    def _built_rows(self) -> str:
        """Say how far the index is; empty: it is built."""
        described = self.describe()
        state, pending = described.get("state"), described.get("pending_index_rows")
        if state == "Failed":
            reason = described.get("index_state_fail_reason") or described
            raise MilvusException(message=f"building the index failed: {reason}")
        if state == "Finished" and not pending:
            return ""
        return f"{state or 'no state'}, {described.get('indexed_rows', 0)} rows indexed"

    def load(self) -> None:
        """Load the collection, and wait until it is; nothing to do if it is loaded."""
        self._call("load_collection", "loading the collection", _async=True)
        if not self.backend.builds_on_load:
            # The call returns before loading begins, which would look like loading that failed.
            self._wait_for("beginning to load the collection", self._not_begun, BEGIN)
            self._wait_for("loading the collection", self._loaded_share, PATIENCE)

    def _not_begun(self) -> str:
        """Say that loading has not begun; empty: it has."""
        state = self.client.get_load_state(**self._names)["state"]
        return str(state) if state == LoadState.NotLoad else ""

    def _loaded_share(self) -> str:
        """Say how much is loaded; empty: all is."""
        told = self.client.get_load_state(**self._names)
        if told["state"] == LoadState.Loaded:
            return ""
        if told["state"] != LoadState.Loading:
            raise MilvusException(message=f"loading failed: the collection is {told['state']}")
        return f"{told['state']}, {told.get('progress', 0)}%"

    def _wait_for(self, what: str, look: Callable[[], str], patience: float) -> None:
        """Wait until there is nothing to be seen any more, as long as it changes."""
        seen, until = "", 0.0
        while now := look():
            if now != seen:
                seen, until = now, time.monotonic() + patience
            elif time.monotonic() > until:
                raise MilvusException(
                    message=f"{what} made no progress for {patience:g} s: {seen}; the server's "
                    "log may say why"
                )
            time.sleep(0.2)

    def is_loaded(self) -> bool:
        """Whether the collection can be searched."""
        return bool(self.client.get_load_state(**self._names)["state"] == LoadState.Loaded)

    def release(self) -> None:
        """Release the collection: the index of a loaded one cannot be dropped."""
        self.client.release_collection(**self._names)

    def drop(self) -> None:
        """Drop this index, and no other one of the collection."""
        for name in self.client.list_indexes(field_name=VECTOR_FIELD, **self._names):
            known = self.backend.name_to_drop(VECTOR_FIELD, name)
            self.client.drop_index(index_name=known, **self._names)

    def complete(self, wanted: Index) -> Index:
        """Load the collection; build what a killed process left unfinished.

        Parameters
        ----------
        wanted
            What to build then; parameters that follow the number of rows may be left open.

        Returns
        -------
        Index
            The one that is there now.
        """
        built = self.read()
        # Nothing is left to do, so there is no need to wait for who changes an index.
        if built is not None and self.backend.is_lite and self.is_loaded():
            return built
        with changing_index(self.client, self.collection):
            return self._complete(wanted)

    def _complete(self, wanted: Index) -> Index:
        # Once more: whoever had its turn before may have built it.
        built = self.read()
        if built is None:
            wanted = wanted.for_rows(self.count())
            _LOG.warning("the index is missing, as after a killed process: building %s", wanted)
            self.release()
            self.build(wanted)
            built = wanted
        try:
            self.load()
        except FAILURES as error:
            # A server had built it before; that it does not load is not mended by another one.
            if not self.backend.builds_on_load:
                raise
            wanted = wanted.for_rows(self.count())
            _LOG.warning("the index cannot be loaded (%s): building %s", message_of(error), wanted)
            self.replace(wanted)
            return wanted
        return built

    def replace(self, wanted: Index) -> dict[str, float]:
        """Swap the index for another one over the same rows: release, drop, create, load.

        Returns
        -------
        dict
            Seconds by step. Milvus Lite builds when it loads, a server when it creates.
        """
        seconds: dict[str, float] = {}
        with changing_index(self.client, self.collection):
            with _timed(seconds, "release"):
                self.release()
            with _timed(seconds, "drop"):
                self.drop()
            with _timed(seconds, "create"):
                self.build(wanted)
            with _timed(seconds, "load"):
                self.load()
        return seconds

    def vectors(self) -> Iterator[NDArray[np.float32]]:
        """Yield all vectors in the order of their ids, in blocks of shape (rows, dimension)."""
        size = min(_MOST_ROWS, max(1, _BLOCK // (4 * self.dimension())))
        for page in pages(
            self.client,
            self.collection,
            'id != ""',
            [VECTOR_FIELD],
            size=size,
            timeout=self._timeout,
        ):
            yield np.array([row[VECTOR_FIELD] for row in page], dtype=np.float32)

    def nearest(
        self, questions: NDArray[np.float32], top_k: int, params: Mapping[str, Value]
    ) -> list[NDArray[np.float32]]:
        """Search for vectors; return those that are found, one array for each question."""
        found = self.client.search(
            data=questions.tolist(),
            limit=top_k,
            anns_field=VECTOR_FIELD,
            search_params={"params": dict(params)},
            output_fields=[VECTOR_FIELD],
            **self._names,
        )
        return [
            np.array([hit["entity"][VECTOR_FIELD] for hit in hits], dtype=np.float32)
            for hits in found
        ]

    def probe(self, built: Index) -> None:
        """Search for one of the rows.

        Raises
        ------
        VectorStoreError
            If nothing is found, though there are rows.
        """
        rows = self.client.query(filter="", limit=1, output_fields=[VECTOR_FIELD], **self._names)
        if not rows:
            return
        found = self.client.search(
            data=[rows[0][VECTOR_FIELD]],
            limit=1,
            anns_field=VECTOR_FIELD,
            search_params={"params": search_params(built, {}, 1)},
            **self._names,
        )
        if not found or not found[0]:
            raise VectorStoreError("a search for one of the collection's own rows found nothing")


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start


def _as_text(params: Mapping[str, Value]) -> dict[str, Value]:
    """Write truth values as Milvus reads them; pymilvus would send Python's "True"."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in params.items()
    }
