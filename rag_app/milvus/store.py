"""Config → the LlamaIndex `MilvusVectorStore`: opened, checked against what made it, loaded.

Milvus is the only state: what is ingested is what the rows say, and what made a collection is
written in its properties.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient

from rag_app.config.index_checks import dimension_fault, faults, index_error, server_fault
from rag_app.config.index_types import Index
from rag_app.config.loader import COMMAND_LINE, override
from rag_app.config.sections import Config, VectorStoreSection
from rag_app.errors import CollectionChangedError, InputError, VectorStoreError
from rag_app.milvus import words as word_index
from rag_app.milvus.backend import Backend, backend_of
from rag_app.milvus.chosen import read_chosen
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex, configured_index
from rag_app.milvus.errors import FAILURES, as_store_error, message_of
from rag_app.milvus.foreign import read_foreign
from rag_app.milvus.lite import check_collection, clear_leftover, open_database
from rag_app.milvus.lite_files import collection_folder
from rag_app.milvus.made_by import (
    MADE_BY,
    MIGRATION,
    MadeBy,
    as_made,
    brought_up_to_date,
    check_made_by,
    describe_embedding,
    language_of,
    splitting_of,
)
from rag_app.milvus.names import at_real_name, lite_target, real_name
from rag_app.milvus.noticing import Noticing
from rag_app.milvus.search import VECTOR_FIELD

MOST_ID = 4096
"""Characters of an id: LlamaIndex's readers take paths for ids."""

_LOG = logging.getLogger("rag_app")


def find_store(
    config: Config, *, counted: bool = True, exact: bool = False, foreign: bool = False
) -> CollectionStore | None:
    """Open the configured collection, check what made it, load it; None if it is not there.

    Parameters
    ----------
    counted
        Refuse a collection that lost rows since it was written; else its `lost` tells.
    exact
        Whether it must be as the configuration would make it, how documents are split included; to
        search it, it need not.
    foreign
        Whether one that another LlamaIndex program made will do, to be searched.

    Raises
    ------
    CollectionMismatchError
        If another configuration, or another program, made it.
    ConfigError
        If the server is too old for the configured index.
    VectorStoreError
        If Milvus cannot be reached or opened, or the collection is damaged.
    """
    opened = _open(config, counted=counted, exact=exact, foreign=foreign)
    if opened is None:
        return None
    store, index = opened
    if not store.is_foreign:
        store.notice(Noticing(config.vector_store, store, index, lambda: _opened_again(config)))
    return store


def _open(
    config: Config,
    *,
    counted: bool,
    exact: bool = False,
    foreign: bool = False,
    follows: bool = False,
) -> tuple[CollectionStore, DenseIndex] | None:
    found = _find(config, exact=exact, foreign=foreign, follows=follows)
    if found is None:
        return None
    config, index = found
    section = config.vector_store
    try:
        described = _described(index.client, section)
        properties = described["properties"]
        if MADE_BY not in properties:
            theirs = read_foreign(config, described)
            # Not `complete`: nothing is built in another program's collection.
            index.load()
            built = index.read() or Index("", "")
            return CollectionStore(config, built, None, foreign=theirs), index
        has_words = word_index.has_words(index.client, section.collection, section.timeout)
        if has_words:
            # Before it is loaded: an index is made of a released collection only.
            _ensure_words(index, config)
        # Every collection of Milvus Lite reopens released, and LlamaIndex's store never loads it.
        built = index.complete(configured_index(config, index.backend))
        language = language_of(config, properties) if has_words else None
        store = CollectionStore(config, built, language, read_chosen(properties, built))
        if counted and (lost := store.lost()):
            raise VectorStoreError(
                f"the collection {section.collection!r} in {section.uri} lost rows: {lost}",
                f"restore {collection_folder(section.uri, section.collection)} from a backup; or "
                "go on with what is left: rag-app verify --repair, then rag-app ingest the "
                "documents again",
            )
        return store, index
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


def _opened_again(config: Config) -> tuple[CollectionStore, DenseIndex]:
    opened = _open(config, counted=False, follows=True)
    if opened is None:
        section = config.vector_store
        raise CollectionChangedError(
            f"the collection {section.collection!r} in {section.uri} is gone", "ingest again"
        )
    return opened


def find_index(config: Config, *, exact: bool = False, foreign: bool = False) -> DenseIndex | None:
    """Return the index of the configured collection, without loading it; None if it is not there.

    Raises
    ------
    CollectionMismatchError, ConfigError, VectorStoreError
        As `find_store`.
    """
    found = _find(config, exact=exact, foreign=foreign)
    return found[1] if found else None


def _find(
    config: Config, *, exact: bool, foreign: bool, follows: bool = False
) -> tuple[Config, DenseIndex] | None:
    """Find the collection that is meant; with it the configuration that names and searches it."""
    section = config.vector_store
    if not is_there(section):
        return None
    client = connect(section)
    try:
        if section.is_file:
            # Before any call by which Lite opens it.
            check_collection(section.uri, lite_target(section.uri, section.collection))
        name = real_name(client, section)
        if name is None:
            return None
        config = at_real_name(config, name)
        properties = _described(client, config.vector_store)["properties"]
        # Who has it open follows an alias wherever it leads, also after a migration is finished.
        if follows and name != section.collection:
            config = as_made(config, properties)
        check_made_by(config, properties, exact=exact, foreign=foreign)
        if MADE_BY in properties:
            _bring_up_to_date(client, config, properties)
            if not exact and properties.get(MIGRATION):
                config = as_made(config, properties)
        return config, _index(client, config)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


def split_as_made(config: Config) -> Config:
    """Return the configuration with the ``[chunking]`` of its collection, where there is one.

    What was said on the command line stays as it is.

    Raises
    ------
    VectorStoreError
        If Milvus cannot be reached or opened.
    """
    section = config.vector_store
    if not is_there(section):
        return config
    client = connect(section)
    try:
        name = real_name(client, section)
        if name is None:
            return config
        named = at_real_name(config, name).vector_store
        made = splitting_of(_described(client, named)["properties"])
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error
    if any(config.origin(key) == COMMAND_LINE for key in made):
        return config
    return override(config, made)


def is_there(section: VectorStoreSection) -> bool:
    """Whether there is a Milvus Lite database, which connecting would make; a server: always.

    Raises
    ------
    VectorStoreError
        If it cannot be looked for.
    """
    if not section.is_file:
        return True
    try:
        return Path(section.uri).exists()
    except OSError as error:  # Python 3.11 raises where a folder above may not be entered
        raise VectorStoreError(
            f"the Milvus Lite database {section.uri} cannot be looked for: {error.strerror}",
            "let this user enter its folder, or set vector_store.uri",
        ) from None


def _bring_up_to_date(client: MilvusClient, config: Config, properties: dict[str, str]) -> None:
    """Write what made a collection as it is written now, if we may."""
    written = brought_up_to_date(config, properties)
    if written == properties[MADE_BY]:
        return
    section = config.vector_store
    try:
        client.alter_collection_properties(
            section.collection, {MADE_BY: written}, timeout=section.timeout
        )
    except FAILURES as error:  # a user who may only read
        _LOG.info("%s keeps its earlier properties: %s", section.collection, message_of(error))


def _index(client: MilvusClient, config: Config) -> DenseIndex:
    """Return the index of a collection, after checking that this Milvus can build it."""
    section = config.vector_store
    backend = check_backend(client, config, config.index.type)
    return DenseIndex(client, section.collection, backend=backend, timeout=section.timeout)


def check_backend(client: MilvusClient, config: Config, type_: str) -> Backend:
    """Check that the Milvus behind a client builds a type; return which Milvus it is.

    Raises
    ------
    ConfigError
        Naming the types that it builds.
    """
    section = config.vector_store
    backend = backend_of(client, section.uri, section.timeout)
    if backend.has_files:  # checked when the configuration was loaded
        return backend
    fault = None if backend.is_lite else server_fault(type_, backend.version)
    is_configured = type_ == config.index.type
    if backend.is_lite:
        index = config.index
        given = (index.params, index.search_params) if is_configured else ({}, {})
        top_k = config.retrieval.similarity_top_k
        fault = next(faults(type_, index.metric, *given, top_k=top_k, lite=True), None)
    if fault is not None:
        raise index_error(config, fault, asked="" if is_configured else type_)
    return backend


def open_store(
    config: Config, *, counted: bool = True, exact: bool = False, foreign: bool = False
) -> CollectionStore:
    """Open the configured collection, as `find_store` does.

    Raises
    ------
    InputError
        If nothing was ingested into it yet.
    """
    store = find_store(config, counted=counted, exact=exact, foreign=foreign)
    if store is None:
        section = config.vector_store
        raise InputError(
            f"there is no collection {section.collection!r} in {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    if not store.is_foreign and (changes := store.index_changes(config)):
        _LOG.warning(
            "the index is %s, not as configured (%s); to have that: rag-app index apply",
            store.built_index,
            ", ".join(changes),
        )
    return store


def create_store(
    config: Config, dimension: int, properties: Mapping[str, str] | None = None
) -> CollectionStore:
    """Make the configured collection for vectors of this length, and open it.

    Parameters
    ----------
    properties
        Of the collection, besides those that tell what made it.

    Raises
    ------
    ConfigError
        If the server is too old for the configured index, or it does not fit the dimension.
    VectorStoreError
        If Milvus cannot be reached, opened or written.
    """
    section = config.vector_store
    client = connect(section)
    if section.is_file:
        check_collection(section.uri, section.collection)
        clear_leftover(section.uri, section.collection)
    try:
        # There are no rows yet; the end of the ingest chooses for those that there are then.
        index = _index(client, config)
        wanted = configured_index(config, index.backend).for_rows(0)
        # Before it is made: else an empty collection would stay, without an index.
        if fault := dimension_fault(wanted.params, dimension):
            raise index_error(config, fault)
        has_words = _create(index, config, dimension, properties or {})
        if has_words:
            _ensure_words(index, config)
        index.build(wanted)
        index.load()
        return CollectionStore(config, wanted, config.retrieval.language if has_words else None)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


def connect(section: VectorStoreSection) -> MilvusClient:
    """Connect to Milvus; a Lite database is opened in this process, or shared with who has it open.

    Waits up to ``vector_store.lock_timeout`` for a program that has it open and does not share it.

    Raises
    ------
    VectorStoreError
        If it cannot be reached or opened: who holds it, or what is wrong with the path.
    """
    for noisy in ("pymilvus", "milvus_lite", "grpc._server"):
        # They log what they also raise, and what Lite does not implement and nobody needs.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if section.is_file:
        open_database(Path(section.uri), section.lock_timeout)
    try:
        return MilvusClient(
            uri=section.uri,
            token=section.token.get_secret_value(),
            timeout=section.timeout,
        )
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


def _ensure_words(index: DenseIndex, config: Config) -> None:
    section = config.vector_store
    word_index.ensure_index(
        index.client, section.collection, backend=index.backend, timeout=section.timeout
    )


def _create(
    index: DenseIndex, config: Config, dimension: int, properties: Mapping[str, str]
) -> bool:
    """Make the collection; return whether it counts words."""
    section = config.vector_store
    client = index.client
    # Dynamic: nodes of LlamaIndex applications bring metadata of any keys.
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=MOST_ID, is_primary=True)
    schema.add_field("doc_id", DataType.VARCHAR, max_length=MOST_ID)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)  # the most that Milvus takes
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    has_words = index.backend.counts_words
    if has_words:
        word_index.add_fields(schema, index.backend)
    made_by = {
        **asdict(MadeBy.of(config)),
        "dimension": dimension,
        "embedding": describe_embedding(config),
    }
    client.create_collection(
        section.collection,
        schema=schema,
        consistency_level=section.consistency,
        # In this call: killed before another, it would be one that nobody knows the maker of.
        properties={MADE_BY: json.dumps(made_by), **properties},
        timeout=section.timeout,
    )
    return has_words


def _described(client: MilvusClient, section: VectorStoreSection) -> dict[str, Any]:
    """Describe a collection by its own name, its properties always among the rest."""
    described = client.describe_collection(section.collection, timeout=section.timeout)
    return {**described, "properties": dict(described.get("properties", {}))}
