"""A scratch copy of vectors to measure indexes on: made, searched, and dropped whatever happens.

On Milvus Lite it is a database of its own in the folder for temporary files; on a server a
collection with a name that says which process made it. What a killed process left is dropped by the
next one on the same machine.
"""

import os
import re
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient

from rag_app.config.index_types import INDEX_TYPES, Index
from rag_app.config.sections import Config, VectorStoreSection
from rag_app.errors import VectorStoreError
from rag_app.index.bench.vectors import Vectors, clustered_vectors
from rag_app.milvus.backend import Backend, backend_of
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.errors import FAILURES, message_of
from rag_app.milvus.lite_files import index_files, release
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import connect

PREFIX = "rag_app_scratch"
_MACHINE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_NAME = re.compile(rf"{PREFIX}_([0-9a-f]{{8}})_(\d+)_(\d+)\Z")
ENOUGH = 1100
"""Rows of which a server builds an index: it leaves less than 1,024 as they are."""

_OLD = 24 * 3600.0
"""Seconds after which a scratch is taken for forgotten, whoever made it."""


class Scratch:
    """Vectors in a collection of their own, with their row numbers as ids."""

    def __init__(self, client: MilvusClient, name: str, backend: Backend, timeout: float) -> None:
        self.index = DenseIndex(client, name, backend=backend, timeout=timeout)
        self._client = client
        self._name = name
        self._folder = backend.uri if backend.has_files else None
        self._timeout = timeout

    def fill(self, vectors: Vectors) -> None:
        """Write vectors of shape (rows, dimension), and seal them: others are searched slowly."""
        for start in range(0, len(vectors), 1000):
            rows = [
                {"id": start + number, VECTOR_FIELD: vector.tolist()}
                for number, vector in enumerate(vectors[start : start + 1000])
            ]
            self._client.insert(self._name, rows, timeout=self._timeout)
        self._client.flush(self._name, timeout=None)  # as long as there are rows

    def search(
        self, questions: Sequence[list[float]], top_k: int, params: Mapping[str, Any]
    ) -> list[list[int]]:
        """Return the row numbers that Milvus finds nearest to each question, best first."""
        found = self._client.search(
            self._name,
            data=list(questions),
            limit=top_k,
            anns_field=VECTOR_FIELD,
            search_params={"params": dict(params)},
            timeout=self._timeout,
        )
        return [[int(hit["id"]) for hit in hits] for hits in found]

    def index_bytes(self) -> int | None:
        """Return the size of the index's files; None where a server does not tell."""
        if self._folder is None:
            return None
        files = index_files(self._folder, self._name, VECTOR_FIELD)
        return sum(file.stat().st_size for file in files)


@contextmanager
def scratch(config: Config, dimension: int) -> Iterator[Scratch]:
    """Yield an empty scratch collection of the configured backend; drop it at the end.

    Raises
    ------
    VectorStoreError
        If Milvus cannot be reached or written.
    """
    name = f"{PREFIX}_{_MACHINE}_{os.getpid()}_{int(time.time())}"
    section = config.vector_store
    if section.is_file:
        drop_leftover_folders()
        folder = Path(tempfile.mkdtemp(prefix=f"{name}_"))
        database = str(folder / "scratch.db")
        try:
            local = section.model_copy(update={"uri": database})
            yield _make(connect(local), name, local, dimension)
        finally:
            # First: its files may not go from under it while it is open.
            release(database)
            shutil.rmtree(folder, ignore_errors=True)
        return
    client = connect(section)
    drop_leftovers(client, section)
    try:
        yield _make(client, name, section, dimension)
    finally:
        client.drop_collection(name, timeout=section.timeout)


def prove_buildable(config: Config, wanted: Index, dimension: int) -> None:
    """Build an index over a few made-up vectors, before the one that is there is dropped.

    Whether a server can use a GPU or DiskANN depends on more than its version.

    Raises
    ------
    VectorStoreError
        If the server fails, or is not done after ``vector_store.timeout``.
    """
    try:
        with scratch(config, dimension) as copy:
            copy.fill(clustered_vectors(ENOUGH, dimension))
            copy.index.build(wanted, config.vector_store.timeout)
    except FAILURES as error:
        raise VectorStoreError(
            f"the server at {config.vector_store.uri} cannot build {wanted}: {message_of(error)}; "
            "nothing was changed",
            f"set index.type to one that does not need {INDEX_TYPES[wanted.type].needs}, e.g. HNSW",
        ) from error


def _make(client: MilvusClient, name: str, section: VectorStoreSection, dimension: int) -> Scratch:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    client.create_collection(
        name, schema=schema, consistency_level="Strong", timeout=section.timeout
    )
    backend = backend_of(client, section.uri, section.timeout)
    return Scratch(client, name, backend, section.timeout)


def drop_leftovers(client: MilvusClient, section: VectorStoreSection) -> list[str]:
    """Drop the scratch collections of processes that are gone; return their names."""
    names = [name for name in client.list_collections(timeout=section.timeout) if _is_left(name)]
    for name in names:
        client.drop_collection(name, timeout=section.timeout)
    return names


def drop_leftover_folders() -> list[str]:
    """Delete the scratch databases of processes that are gone; return their paths."""
    folders = [
        path
        for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}_*")
        if _is_left(path.name.rpartition("_")[0])  # without what `mkdtemp` puts behind
    ]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return [str(folder) for folder in folders]


def _is_left(name: str) -> bool:
    """Whether a name is that of a scratch whose process does not run any more."""
    match = _NAME.match(name)
    if match is None:
        return False
    machine, pid, since = match.groups()
    if time.time() - int(since) > _OLD:
        return True
    # Of another machine the pid means nothing; on Windows, asking for a process ends it.
    if machine != _MACHINE or os.name == "nt":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it runs, as someone else
        return False
    return False
