"""Config → the LlamaIndex `MilvusVectorStore`: opened, checked against what made it, loaded.

The one module that knows Milvus Lite from a server (with `milvus_lite_files`, its folder and lock).
Milvus is the only state: what is ingested is what the rows say, and what made a collection is
written in its properties.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from rag_app.collection import INDEX, VECTOR_FIELD, CollectionStore, as_store_error
from rag_app.config import Config, VectorStoreSection
from rag_app.errors import CollectionMismatchError, InputError, VectorStoreError
from rag_app.indexes import INDEX_TYPES
from rag_app.milvus_lite_files import prepare, wait_for_lock

SCHEMA_VERSION = 1
"""Raise it when rows change so that collections made before cannot be used any more."""

MADE_BY = "rag_app.made_by"
"""The collection property that says what made it, as JSON. Milvus Lite forgets descriptions."""

_LOG = logging.getLogger("rag_app")


@dataclass(frozen=True)
class MadeBy:
    """What decides a collection's rows. Two configurations that differ here cannot share one."""

    model: str
    normalize: bool
    unit: str
    size: int
    overlap: int
    metric: str
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, config: Config) -> "MadeBy":
        """Tell what a configuration would make."""
        return cls(
            model=config.embedding.identity,
            normalize=config.embedding.normalize,
            unit=config.chunking.unit,
            size=config.chunking.size,
            overlap=config.chunking.overlap,
            metric=config.index.metric,
        )


_CONFIG_KEYS = {
    "model": "embedding.model",
    "normalize": "embedding.normalize",
    "unit": "chunking.unit",
    "size": "chunking.size",
    "overlap": "chunking.overlap",
    "metric": "index.metric",
    "schema_version": "the schema version",
}


def find_store(config: Config) -> CollectionStore | None:
    """Open the configured collection, check what made it, load it; None if it is not there.

    Raises
    ------
    CollectionMismatchError
        If another configuration, or another program, made it.
    VectorStoreError
        If Milvus cannot be reached or opened.
    """
    section = config.vector_store
    if section.is_lite and not Path(section.uri).exists():
        return None
    client = connect(section)
    try:
        if not client.has_collection(section.collection, timeout=section.timeout):
            return None
        properties = _properties(client, section)
        check_made_by(config, properties)
        if properties.get(INDEX) is None:  # killed between making the collection and its index
            _build_index(client, config)
        # Every collection of Milvus Lite reopens released, and LlamaIndex's store never loads it.
        client.load_collection(section.collection, timeout=section.timeout)
        return CollectionStore(config)
    except MilvusException as error:
        raise as_store_error(error, section.uri) from error


def open_store(config: Config) -> CollectionStore:
    """Open the configured collection, as `find_store` does.

    Raises
    ------
    InputError
        If nothing was ingested into it yet.
    """
    store = find_store(config)
    if store is None:
        section = config.vector_store
        raise InputError(
            f"there is no collection {section.collection!r} in {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    if store.built_index != configured_index(config):
        _LOG.warning(
            "the index is %s, the configuration says %s; the next rag-app ingest rebuilds it",
            _index_text(store.built_index),
            _index_text(configured_index(config)),
        )
    return store


def create_store(config: Config, dimension: int) -> CollectionStore:
    """Make the configured collection for vectors of this length, and open it.

    Raises
    ------
    VectorStoreError
        If Milvus cannot be reached, opened or written.
    """
    section = config.vector_store
    client = connect(section)
    try:
        _create(client, config, dimension)
        _build_index(client, config)
        client.load_collection(section.collection, timeout=section.timeout)
        return CollectionStore(config)
    except MilvusException as error:
        raise as_store_error(error, section.uri) from error


def apply_index(config: Config, store: CollectionStore) -> bool:
    """Rebuild the index if it is not the configured one; no row is inserted again.

    Returns
    -------
    bool
        Whether there was anything to do.
    """
    if store.built_index == configured_index(config):
        return False
    section = config.vector_store
    client: MilvusClient = store.client
    names = {"collection_name": section.collection, "timeout": section.timeout}
    try:
        client.release_collection(**names)
        for index in client.list_indexes(section.collection, field_name=VECTOR_FIELD):
            client.drop_index(index_name=index, **names)
        _build_index(client, config)
        client.load_collection(**names)
    except MilvusException as error:
        raise as_store_error(error, section.uri) from error
    return True


def configured_index(config: Config) -> dict[str, Any]:
    """Tell the index that a configuration asks for: type, metric, and all its build parameters."""
    index = config.index
    params = {**dict(INDEX_TYPES[index.type].defaults), **index.params}
    return {"type": index.type, "metric": index.metric, "params": params}


def _index_text(index: Mapping[str, Any]) -> str:
    params = ", ".join(f"{name}={value}" for name, value in index.get("params", {}).items())
    return f"{index.get('type')}({params})"


def connect(section: VectorStoreSection) -> MilvusClient:
    """Connect to Milvus; a Lite database is opened in this process and held until it ends.

    Waits up to ``vector_store.lock_timeout`` for another process that holds it.

    Raises
    ------
    VectorStoreError
        If it cannot be reached or opened: who holds it, or what is wrong with the path.
    """
    for noisy in ("pymilvus", "milvus_lite", "grpc._server"):
        # They log what they also raise, and what Lite does not implement and nobody needs.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if section.is_lite:
        prepare(Path(section.uri))
        wait_for_lock(Path(section.uri), section.lock_timeout)
    try:
        return MilvusClient(
            uri=section.uri, token=section.token.get_secret_value(), timeout=section.timeout
        )
    except MilvusException as error:
        if section.is_lite:
            raise VectorStoreError(
                f"the Milvus Lite database {section.uri} cannot be opened: {error.message}",
                "check that its folder can be written to; rag-app verify looks into a damaged one",
            ) from error
        raise as_store_error(error, section.uri) from error


def _create(client: MilvusClient, config: Config, dimension: int) -> None:
    section = config.vector_store
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field("doc_id", DataType.VARCHAR, max_length=64)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    made_by = {**asdict(MadeBy.of(config)), "dimension": dimension}
    client.create_collection(
        section.collection,
        schema=schema,
        consistency_level=section.consistency,
        properties={MADE_BY: json.dumps(made_by)},
        timeout=section.timeout,
    )


def _build_index(client: MilvusClient, config: Config) -> None:
    """Build the configured index over a released collection, and write down what was built.

    Neither backend reads back every parameter it was given, so a property keeps them. It is written
    last: where it disagrees, the index is built again.
    """
    section = config.vector_store
    wanted = configured_index(config)
    index = client.prepare_index_params()
    index.add_index(
        VECTOR_FIELD,
        index_type=wanted["type"],
        index_name=VECTOR_FIELD,
        metric_type=wanted["metric"],
        params=wanted["params"],
    )
    client.create_index(section.collection, index, timeout=section.timeout)
    client.alter_collection_properties(
        section.collection, properties={INDEX: json.dumps(wanted)}, timeout=section.timeout
    )


def _properties(client: MilvusClient, section: VectorStoreSection) -> dict[str, str]:
    described = client.describe_collection(section.collection, timeout=section.timeout)
    if described["collection_name"] != section.collection:  # LlamaIndex's store finds no alias
        raise InputError(
            f"{section.collection!r} in {section.uri} is an alias of the collection "
            f"{described['collection_name']!r}",
            f"use that name: --collection {described['collection_name']}",
        )
    return dict(described.get("properties", {}))


def check_made_by(config: Config, properties: Mapping[str, str]) -> None:
    """Refuse a collection that the configuration would not have made.

    Raises
    ------
    CollectionMismatchError
        Naming both sides; the remedy names another collection.
    """
    section = config.vector_store
    other = f"use another collection: --collection {section.collection}_2"
    if MADE_BY not in properties:
        raise CollectionMismatchError(
            f"the collection {section.collection!r} in {section.uri} was not made by rag_app",
            f"{other} (vector_store.collection); which there are: rag-app collections list",
        )
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    for name, value in asdict(MadeBy.of(config)).items():
        if made.get(name) != value:
            key = _CONFIG_KEYS[name]
            raise CollectionMismatchError(
                f"the collection {section.collection!r} in {section.uri} was made with {key} = "
                f"{made.get(name)!r}, and the configuration ({config.origin(key)}) says {value!r}",
                f"set {key} back, or {other} (vector_store.collection) and ingest into that",
            )
