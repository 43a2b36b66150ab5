"""``rag-app index show`` and ``apply``: the configured index against the one that is there."""

import logging
import time
from typing import Any

from rag_app.config.index_checks import dimension_fault, index_error
from rag_app.config.index_types import INDEX_TYPES, Index, chosen_by_rows, search_params
from rag_app.config.sections import Config
from rag_app.errors import InputError, RagAppError, VectorStoreError
from rag_app.index.bench.scratch import prove_buildable
from rag_app.index.choose import choose_search_params
from rag_app.index.schema import IndexChange, IndexStatus
from rag_app.milvus.chosen import Chosen, read_chosen
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex, configured_index
from rag_app.milvus.errors import FAILURES, MAKE_ROOM, as_store_error, message_of, storage_problem
from rag_app.milvus.lite_files import index_files, read_each, read_index_file
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import find_index
from rag_app.milvus.writing import in_turn

_LOG = logging.getLogger("rag_app")


def show_index(config: Config) -> IndexStatus:
    """Tell the collection's index: configured against actual, rows, size, build state.

    Raises
    ------
    InputError
        If nothing was ingested yet.
    CollectionMismatchError, ConfigError, VectorStoreError
        As opening the collection does.
    """
    section, index = config.vector_store, _find(config)
    wanted = configured_index(config, index.backend)
    try:
        index.complete(wanted)
        # After `complete`: on a server only what is loaded is counted exactly.
        rows = index.count()
        built = index.read() or wanted.for_rows(rows)
        chosen = read_chosen(index.properties(), built)
        described = index.describe()
        size, size_of = _size(config, index, rows)
        given = config.index.search_params
        by_rows = chosen.search_params if chosen else {}
        top_k = config.retrieval.similarity_top_k
        return IndexStatus(
            collection=section.collection,
            backend=str(index.backend),
            configured={**wanted.to_dict(), "search_params": dict(given)},
            chosen=chosen.to_dict() if chosen else {},
            built={
                **built.to_dict(),
                "search_params": search_params(built, {**by_rows, **given}, top_k),
            },
            differs=built.changes(wanted),
            read_back=tuple(_read_back(config, index)),
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
    config: Config,
    *,
    store: CollectionStore | None = None,
    dry_run: bool = False,
    anew: bool = True,
) -> IndexChange:
    """Make the collection's index the configured one; no row is written again.

    What follows the number of rows and is not configured is chosen for those that are there, and
    kept in the collection's properties.

    Searches wait meanwhile (Milvus Lite) or fail (a server). Killed in the middle, the next time
    the collection is opened completes it. If Milvus cannot build the new index, the former one is
    built again.

    Parameters
    ----------
    store
        The collection, where it is open already.
    anew
        Whether to choose again even if the rows are about as many as at the last time.

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
    section, given = config.vector_store, config.index.search_params
    started = time.perf_counter()
    index = _find(config)
    try:
        before, rows = index.read(), index.count()
        kept = read_chosen(index.properties(), before)
        if kept is not None and (anew or kept.is_outgrown(rows)):
            kept = None
        configured = configured_index(config, index.backend)
        wanted = _settled(configured, kept, _rows_of_a_segment(index, config, rows))
        changes = before.changes(wanted) if before else (f"none → {wanted}",)
        if changes and (fault := dimension_fault(wanted.params, index.dimension())):
            raise index_error(config, fault)
        seconds: dict[str, float] = {}
        if not changes:
            index.complete(wanted)
        elif not dry_run:
            if INDEX_TYPES[wanted.type].needs:
                prove_buildable(config, wanted, index.dimension())
            seconds = _swap(index, before, wanted)
        chosen, recall = kept, None
        open_ = {param.name for param in chosen_by_rows(wanted.type, given)}
        # What is open now may have been configured when the rest was chosen.
        is_due = bool(open_) and (kept is None or not open_ <= kept.search_params.keys())
        if (changes or is_due) and not dry_run:
            measuring = time.perf_counter()
            params = {k: v for k, v in wanted.params.items() if k not in configured.params}
            search, recall = choose_search_params(index, wanted, given)
            chosen = Chosen(wanted, rows, params, search, recall) if params or search else None
            if chosen is not None:
                _keep(index, chosen)
            seconds["measure"] = time.perf_counter() - measuring
        if store is not None and not dry_run:
            # Open, it would go on with the metric and the parameters of the index before.
            store.use_index(wanted, chosen)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error
    seconds["total"] = time.perf_counter() - started
    return IndexChange(
        before=before.to_dict() if before else {},
        after=wanted.to_dict(),
        changes=changes,
        rows=rows,
        chosen=chosen.to_dict() if chosen else {},
        seconds=seconds,
        recall=recall,
        dry_run=dry_run,
    )


def _keep(index: DenseIndex, chosen: Chosen) -> None:
    """Keep what was chosen in the collection, if we may; others then search by defaults."""
    try:
        index.keep(chosen.as_property())
    except FAILURES as error:  # a user who may write rows, and no properties
        _LOG.warning("what was chosen for the rows cannot be kept: %s", message_of(error))


def _settled(configured: Index, kept: Chosen | None, rows: int) -> Index:
    """Return the configured index with what was chosen, or is chosen now for so many rows."""
    params = {**(kept.params if kept else {}), **configured.params}
    return Index(configured.type, configured.metric, params).for_rows(rows)


def _rows_of_a_segment(index: DenseIndex, config: Config, rows: int) -> int:
    """Tell how many rows one index covers: Milvus builds one for each segment."""
    section = config.vector_store
    if not index.backend.has_files:  # a server's segments hold some 100,000 rows and more
        return rows
    return rows // max(1, len(index_files(section.uri, section.collection, VECTOR_FIELD)))


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
    if index.backend.has_files:
        files = index_files(section.uri, section.collection, VECTOR_FIELD)
        sizes = read_each(files, lambda file: file.stat().st_size)
        return sum(sizes), "index files, on disk and in memory"
    return rows * index.dimension() * 4, "the bare vectors; a server does not tell its index's size"


def _read_back(config: Config, index: DenseIndex) -> list[dict[str, Any]]:
    section = config.vector_store
    if not index.backend.has_files:
        return []
    files = index_files(section.uri, section.collection, VECTOR_FIELD)
    return read_each(files, read_index_file)
