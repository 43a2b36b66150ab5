"""``rag-app index show`` and ``apply``: the configured index against the one that is there."""

import time
from typing import Any

from rag_app.config.index_checks import dimension_fault, index_error
from rag_app.config.index_types import INDEX_TYPES, Index, search_params
from rag_app.config.sections import Config
from rag_app.errors import InputError, RagAppError, VectorStoreError
from rag_app.index.bench.recall import measure_recall
from rag_app.index.bench.scratch import prove_buildable
from rag_app.index.schema import IndexChange, IndexStatus
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex, configured_index
from rag_app.milvus.errors import FAILURES, MAKE_ROOM, as_store_error, message_of, storage_problem
from rag_app.milvus.lite_files import index_files, read_index_file
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import find_index
from rag_app.milvus.writing import in_turn


def show_index(config: Config) -> IndexStatus:
    """Tell the collection's index: configured against actual, rows, size, build state.

    Raises
    ------
    InputError
        If nothing was ingested yet.
    CollectionMismatchError, ConfigError, VectorStoreError
        As opening the collection does.
    """
    section, wanted = config.vector_store, configured_index(config)
    index = _find(config)
    try:
        index.complete(wanted)
        built = index.read() or wanted
        described = index.describe()
        rows = index.count()
        size, size_of = _size(config, index, rows)
        top_k = config.retrieval.similarity_top_k
        searched = search_params(wanted, config.index.search_params, top_k)
        return IndexStatus(
            collection=section.collection,
            backend=index.backend,
            configured={**wanted.to_dict(), "search_params": searched},
            built=built.to_dict(),
            differs=built.changes(wanted),
            read_back=tuple(_read_back(config)),
            rows=rows,
            indexed_rows=int(described.get("indexed_rows") or 0),
            state=str(described.get("state", "")),
            size=size,
            size_of=size_of,
        )
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


@in_turn()
def apply_index(
    config: Config, *, store: CollectionStore | None = None, dry_run: bool = False
) -> IndexChange:
    """Make the collection's index the configured one; no row is written again.

    The collection cannot be searched meanwhile. Killed in the middle, the next time the collection
    is opened completes it. If Milvus cannot build the new index, the former one is built again.

    Parameters
    ----------
    store
        The collection, where it is open already.

    Raises
    ------
    InputError
        If nothing was ingested yet.
    ConfigError
        If the vectors, or the server, cannot have this index. Nothing was touched.
    VectorStoreError
        If Milvus fails.
    CollectionMismatchError
        If another configuration made the collection.
    """
    section, wanted = config.vector_store, configured_index(config)
    started = time.perf_counter()
    index = _find(config)
    try:
        before = index.read()
        changes = before.changes(wanted) if before else (f"none → {wanted}",)
        if changes and (fault := dimension_fault(wanted.params, index.dimension())):
            raise index_error(config, fault)
        seconds: dict[str, float] = {}
        recall: float | None = None
        if not changes:
            index.complete(wanted)
        elif not dry_run:
            if INDEX_TYPES[wanted.type].needs:
                prove_buildable(config, wanted, index.dimension())
            seconds = _swap(index, before, wanted)
            if store is not None:
                store.use_index(wanted)
            measuring = time.perf_counter()
            recall = next(iter(measure_recall(index, wanted, [config.index.search_params])), None)
            seconds["measure"] = time.perf_counter() - measuring
        rows = index.count()
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error
    seconds["total"] = time.perf_counter() - started
    was = before.to_dict() if before else {}
    return IndexChange(was, wanted.to_dict(), changes, rows, seconds, recall, dry_run)


def _find(config: Config) -> DenseIndex:
    index = find_index(config)
    if index is None:
        section = config.vector_store
        raise InputError(
            f"there is no collection {section.collection!r} in {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    return index


def _swap(index: DenseIndex, before: Index | None, wanted: Index) -> dict[str, float]:
    try:
        seconds = index.replace(wanted)
        started = time.perf_counter()
        index.probe(wanted)
        seconds["probe"] = time.perf_counter() - started
    except (*FAILURES, RagAppError) as error:
        if before is None:
            raise
        index.replace(before)
        raise VectorStoreError(
            f"Milvus could not build {wanted} ({message_of(error)}); the index is {before} again",
            MAKE_ROOM
            if storage_problem(error)
            else "choose another index.type: docs/index-types.md says which backend builds which",
        ) from error
    return seconds


def _size(config: Config, index: DenseIndex, rows: int) -> tuple[int, str]:
    section = config.vector_store
    if section.is_lite:
        files = index_files(section.uri, section.collection, VECTOR_FIELD)
        return sum(file.stat().st_size for file in files), "index files, on disk and in memory"
    return rows * index.dimension() * 4, "the bare vectors; a server does not tell its index's size"


def _read_back(config: Config) -> list[dict[str, Any]]:
    section = config.vector_store
    if not section.is_lite:
        return []
    files = index_files(section.uri, section.collection, VECTOR_FIELD)
    return [read_index_file(file) for file in files]
