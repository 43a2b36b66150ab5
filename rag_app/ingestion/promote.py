"""A collection copied to another Milvus, with its vectors: from Lite to a server, back, or between.

The copy remembers where it comes from until it has been found equal, and so a run that was killed
goes on where it was. Only then may the configuration name the new place.
"""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rag_app.config.loader import override
from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.index.apply import apply_index
from rag_app.ingestion.promote_check import compare
from rag_app.milvus.backend import Backend, backend_of
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.copying import contents, copy_rows
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.made_by import MADE_BY
from rag_app.milvus.store import (
    connect,
    create_store,
    find_index,
    find_store,
    open_store,
    split_as_made,
)
from rag_app.milvus.writing import writing
from rag_app.schema import PromoteReport
from rag_app.search.modes import find_mode

PROMOTED_FROM = "rag_app.promoted_from"
"""The property of a copy that is not whole yet: JSON of the URI and the collection it comes from.
Empty: it is whole."""


def target_of(config: Config, to: str, token: str | None = None) -> Config:
    """Return the configuration of the copy.

    Parameters
    ----------
    to
        A server's URI, or the path of a Milvus Lite database, seen from the current folder.
    token
        None: the configured one.

    Raises
    ------
    InputError
        If it is where the collection is already.
    ConfigError
        If it is no URI, or the configured index cannot be there.
    """
    uri = to if "://" in to else str(Path(to).absolute())
    if uri.rstrip("/") == config.vector_store.uri.rstrip("/"):
        raise InputError(f"the collection is in {uri} already", "name another place with --to")
    changes: dict[str, Any] = {"vector_store.uri": uri}
    if token is not None:
        changes["vector_store.token"] = token
    # As the rows were made, whatever the configuration says of splitting by now.
    return override(split_as_made(config), changes)


def missing_there(config: Config, target: Config) -> list[str]:
    """Say what the collection has and will not have at the target.

    Raises
    ------
    VectorStoreError
        If the target cannot be reached.
    """
    here, there = _backend(config), _backend(target)
    missing = []
    if here.counts_words and not there.counts_words:
        missing.append(
            f"the {there} counts no words (2.5 and newer do): searches by words, and hybrid ones, "
            'will not be there; retrieval.mode has to be "dense"'
        )
    if here.finds_parts_of_text and not there.finds_parts_of_text:
        missing.append(f'the {there} does not know the filter "contains"')
    return missing


def changes_of(config: Config, target: Config) -> dict[str, Any]:
    """Return what the configuration has to say to use the copy, by dotted key."""
    changes: dict[str, Any] = {"vector_store.uri": target.vector_store.uri}
    if find_mode(config.retrieval.mode).needs_words and not _backend(target).counts_words:
        changes["retrieval.mode"] = "dense"
    return changes


def promote(
    config: Config, target: Config, *, progress: Callable[[int, int], None] | None = None
) -> PromoteReport:
    """Copy the configured collection to another Milvus, and compare both.

    No vector is computed again. Run again after it was killed, it goes on.

    Parameters
    ----------
    target
        From `target_of`.
    progress
        Called with how many documents are copied, and how many there are to copy.

    Raises
    ------
    InputError
        If there is nothing to copy, another program made it, or the target has another collection
        of this name.
    VectorStoreError
        If either Milvus fails, or the copy is not the original.
    """
    started = time.perf_counter()
    missing = tuple(missing_there(config, target))
    seconds: dict[str, float] = {}
    with ExitStack() as held:
        # Both: what an ingest changed meanwhile would be in one of them only.
        held.enter_context(writing(config.vector_store))
        source = _source(config)
        held.enter_context(writing(target.vector_store))
        copy = _target(config, target, source)
        done = copy_rows(source, copy, progress=progress)
        seconds["copy"] = time.perf_counter() - started
        copy.settle(len(copy.documents()))
        apply_index(target, store=copy, anew=False)
        seconds["index"] = time.perf_counter() - started - seconds["copy"]
        compared = compare(source, copy)
        _index(target).keep({PROMOTED_FROM: ""})
    seconds["total"] = time.perf_counter() - started
    seconds["compare"] = seconds["total"] - seconds["copy"] - seconds["index"]
    return PromoteReport(
        source=config.vector_store.uri,
        target=target.vector_store.uri,
        collection=config.vector_store.collection,
        documents=compared.documents,
        rows=compared.rows,
        written=done.written,
        deleted=done.deleted,
        samples=compared.samples,
        same_searches=compared.same_searches,
        overlap=compared.overlap,
        missing=missing,
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def _source(config: Config) -> CollectionStore:
    source = open_store(config, foreign=True)
    if source.is_foreign:
        raise InputError(
            f"the collection {config.vector_store.collection!r} was not made by rag_app",
            "copy it with the program that made it, or ingest its documents here",
        )
    return source


def _target(config: Config, target: Config, source: CollectionStore) -> CollectionStore:
    """Open the copy; make it if it is not there."""
    origin = json.dumps([config.vector_store.uri, config.vector_store.collection])
    made = _index(config).properties()[MADE_BY]
    there = find_store(target)
    if there is None:
        create_store(target, int(json.loads(made)["dimension"]))
    elif there.count() and _index(target).properties().get(PROMOTED_FROM) != origin:
        _check_equal(source, there, target)
    # Before the first row. One that was killed before this line left an empty collection.
    _index(target).keep({MADE_BY: made, PROMOTED_FROM: origin})
    return open_store(target, counted=False)


def _check_equal(source: CollectionStore, there: CollectionStore, target: Config) -> None:
    """Refuse a collection that is no copy; a whole one, from an earlier run, is compared again."""
    if contents(there).lacks(contents(source)):
        section = target.vector_store
        raise InputError(
            f"there is a collection {section.collection!r} in {section.uri} already, with other "
            "rows",
            "drop or rename that one, or give this one another name: rag-app collections",
        )


def _index(config: Config) -> DenseIndex:
    index = find_index(config)
    assert index is not None  # noqa: S101 - it was opened, or made, before
    return index


def _backend(config: Config) -> Backend:
    section = config.vector_store
    return backend_of(connect(section), section.uri, section.timeout)
