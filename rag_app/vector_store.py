"""Config → the LlamaIndex `MilvusVectorStore`: opened, checked against what made it, loaded.

The one module that knows Milvus Lite from a server. Milvus is the only state: what is ingested is
what the rows say, and what made a collection is written in its properties.
"""

import asyncio
import errno
import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores.types import (
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.milvus.base import IndexManagement
from pydantic import PrivateAttr
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from rag_app.config import Config, VectorStoreSection
from rag_app.errors import CollectionMismatchError, InputError, VectorStoreError
from rag_app.indexes import INDEX_TYPES

SCHEMA_VERSION = 1
"""Raise it when rows change so that collections made before cannot be used any more."""

MADE_BY = "rag_app.made_by"
"""The collection property that says what made it, as JSON. Milvus Lite forgets descriptions."""

INDEX = "rag_app.index"
"""The collection property that says which index was built, as JSON."""

BATCH_SIZE = 1000
"""Rows per write: 100 to 1,000 were fastest on Milvus Lite 3.2."""

_LOG = logging.getLogger("rag_app")
_VECTOR = "embedding"
_HEX_ID = re.compile(r"[0-9a-f]{32}\Z")
_DOCUMENT_FIELDS = (
    "doc_id path title type size root content_hash node_count".split()  # noqa: SIM905 - a list
)


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


@dataclass
class StoredDocument:
    """A document as its rows tell it: `hashes` counts its rows by content hash."""

    id: str
    path: str
    title: str
    type: str
    size: int
    root: str
    node_count: int
    hashes: dict[str, int]

    @property
    def nodes(self) -> int:
        """How many rows it has."""
        return sum(self.hashes.values())

    @property
    def file(self) -> Path:
        """Where its file lay when it was ingested."""
        return Path(self.root) / self.path

    def is_complete(self, content_hash: str) -> bool:
        """Whether its rows are all of this version, and all there."""
        return self.hashes == {content_hash: self.node_count}


@dataclass(frozen=True)
class StoredRow:
    """A row's id, text and vector."""

    id: str
    text: str
    vector: list[float]


class CollectionStore(MilvusVectorStore):
    """`MilvusVectorStore` over an open collection: every call ends in time, async works anywhere.

    LlamaIndex's own ties its async client to the first event loop; this one runs the calls in
    threads. Search results come best first, scores are higher for better ones.
    """

    _timeout: float = PrivateAttr()
    _uri: str = PrivateAttr()

    def __init__(self, config: Config) -> None:
        section = config.vector_store
        super().__init__(
            uri=section.uri,
            token=section.token.get_secret_value(),
            collection_name=section.collection,
            consistency_level=section.consistency,
            similarity_metric=config.index.metric,
            search_config=dict(config.index.search_params),
            index_management=IndexManagement.NO_VALIDATION,
            batch_size=BATCH_SIZE,
            upsert_mode=True,
            use_async_client=False,
            timeout=section.timeout,
        )
        self._timeout = section.timeout
        self._uri = section.uri

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "CollectionStore"

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Write nodes with their embeddings; a node that is there already is replaced."""
        ids = []
        for start in range(0, len(nodes), BATCH_SIZE):
            rows = [_row(node) for node in nodes[start : start + BATCH_SIZE]]
            self._call("upsert", data=rows)
            ids += [row["id"] for row in rows]
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes as `add` does, from any event loop."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def query(self, query: VectorStoreQuery, **_: Any) -> VectorStoreQueryResult:
        """Search by a vector.

        Raises
        ------
        InputError
            For metadata filters and modes other than dense search.
        VectorStoreError
            If Milvus fails.
        """
        if query.mode != VectorStoreQueryMode.DEFAULT:
            raise InputError(
                f"the query mode {query.mode.value!r} is not there", "use dense search"
            )
        if query.filters is not None or query.doc_ids or query.node_ids:
            # LlamaIndex's translator pastes values unescaped into Milvus expressions.
            raise InputError("metadata filters are not there yet", "filter the retrieved nodes")
        hits = self._call(
            "search",
            data=[query.query_embedding],
            limit=query.similarity_top_k,
            anns_field=_VECTOR,
            search_params={"params": self.search_config},
            output_fields=[self.text_key, "_node_content", "_node_type"],
        )
        nodes, scores, ids = self._parse_from_milvus_results(hits)
        if self.similarity_metric == "L2":
            scores = [-distance for distance in scores]
        return VectorStoreQueryResult(nodes=nodes, similarities=scores, ids=ids)

    def search(
        self, vectors: Sequence[Sequence[float]], similarity_top_k: int
    ) -> list[list[NodeWithScore]]:
        """Search by many vectors in one call: a list of nodes for each, best first, with scores."""
        found = []
        for start in range(0, len(vectors), BATCH_SIZE):
            hits = self._call(
                "search",
                data=list(vectors[start : start + BATCH_SIZE]),
                limit=similarity_top_k,
                anns_field=_VECTOR,
                search_params={"params": self.search_config},
                output_fields=[self.text_key, "_node_content", "_node_type"],
            )
            for of_one in hits:
                nodes, scores, _ = self._parse_from_milvus_results([of_one])
                sign = -1.0 if self.similarity_metric == "L2" else 1.0
                found.append(
                    [
                        NodeWithScore(node=node, score=sign * score)
                        for node, score in zip(nodes, scores, strict=True)
                    ]
                )
        return found

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search as `query` does, from any event loop."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Delete a document's rows; ids are hex digests, so nothing else can be meant."""
        self._call("delete", filter=f'doc_id == "{_hex(ref_doc_id)}"')

    async def adelete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Delete as `delete` does, from any event loop."""
        await asyncio.to_thread(self.delete, ref_doc_id, **kwargs)

    def delete_ids(self, ids: Sequence[str]) -> None:
        """Delete rows by id."""
        for start in range(0, len(ids), BATCH_SIZE):
            self._call("delete", ids=[_hex(id_) for id_ in ids[start : start + BATCH_SIZE]])

    def documents(self) -> dict[str, StoredDocument]:
        """Tell which documents the collection holds, by id, in the order of their paths."""
        found: dict[str, StoredDocument] = {}
        for row in self._rows('doc_id != ""', _DOCUMENT_FIELDS):
            document = found.get(row["doc_id"])
            if document is None:
                fields = {key: row[key] for key in _DOCUMENT_FIELDS if key != "content_hash"}
                document = StoredDocument(id=fields.pop("doc_id"), hashes={}, **fields)
                found[document.id] = document
            row_hash = row["content_hash"]
            document.hashes[row_hash] = document.hashes.get(row_hash, 0) + 1
        return dict(sorted(found.items(), key=lambda item: item[1].path))

    def rows_of(self, document_id: str) -> list[StoredRow]:
        """Return a document's rows with their vectors."""
        rows = self._rows(f'doc_id == "{_hex(document_id)}"', ["id", "text", _VECTOR])
        return [StoredRow(row["id"], row["text"], row[_VECTOR]) for row in rows]

    def count(self) -> int:
        """Count the collection's rows."""
        rows = self._call(
            "query", filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(rows[0]["count(*)"])

    def flush(self) -> None:
        """Seal what was written: unflushed rows are searched very slowly."""
        self._call("flush")

    @property
    def built_index(self) -> dict[str, Any]:
        """The index that was built last, as `configured_index` tells what is to be built."""
        described = self._call("describe_collection")
        built: dict[str, Any] = json.loads(described.get("properties", {}).get(INDEX, "{}"))
        return built

    def _rows(self, expression: str, fields: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        iterator = self._call(
            "query_iterator",
            filter=expression,
            output_fields=list(fields),
            batch_size=BATCH_SIZE,
            consistency_level="Strong",
        )
        try:
            while batch := iterator.next():
                yield from batch
        except MilvusException as error:
            raise _as_store_error(error, self._uri) from error
        finally:
            iterator.close()

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, method)(
                collection_name=self.collection_name, timeout=self._timeout, **arguments
            )
        except MilvusException as error:
            raise _as_store_error(error, self._uri) from error


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
        _check_made_by(config, properties)
        if properties.get(INDEX) is None:  # killed between making the collection and its index
            _build_index(client, config)
        # Every collection of Milvus Lite reopens released, and LlamaIndex's store never loads it.
        client.load_collection(section.collection, timeout=section.timeout)
        return CollectionStore(config)
    except MilvusException as error:
        raise _as_store_error(error, section.uri) from error


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
        raise _as_store_error(error, section.uri) from error


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
        for index in client.list_indexes(section.collection, field_name=_VECTOR):
            client.drop_index(index_name=index, **names)
        _build_index(client, config)
        client.load_collection(**names)
    except MilvusException as error:
        raise _as_store_error(error, section.uri) from error
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
        _prepare_lite(Path(section.uri))
        _wait_for_lock(Path(section.uri), section.lock_timeout)
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
        raise _as_store_error(error, section.uri) from error


def release(uri: str) -> None:
    """Close a Milvus Lite database, so that another process can open it."""
    if "://" not in uri:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)


def _prepare_lite(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise VectorStoreError(
            f"vector_store.uri is {path}, a file; a Milvus Lite database is a folder",
            "set vector_store.uri to another path, or move the file away",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VectorStoreError(
            f"the folder of vector_store.uri = {path} cannot be made: {error.strerror}",
            "set vector_store.uri to a path in a folder that can be written to",
        ) from None


def _create(client: MilvusClient, config: Config, dimension: int) -> None:
    section = config.vector_store
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=64, is_primary=True)
    schema.add_field("doc_id", DataType.VARCHAR, max_length=64)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)
    schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
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
        _VECTOR,
        index_type=wanted["type"],
        index_name=_VECTOR,
        metric_type=wanted["metric"],
        params=wanted["params"],
    )
    client.create_index(section.collection, index, timeout=section.timeout)
    client.alter_collection_properties(
        section.collection, properties={INDEX: json.dumps(wanted)}, timeout=section.timeout
    )


def _properties(client: MilvusClient, section: VectorStoreSection) -> dict[str, str]:
    described = client.describe_collection(section.collection, timeout=section.timeout)
    return dict(described.get("properties", {}))


def _check_made_by(config: Config, properties: Mapping[str, str]) -> None:
    section = config.vector_store
    other = (
        "set vector_store.collection to another name, "
        f"e.g. --set vector_store.collection={section.collection}_2"
    )
    if MADE_BY not in properties:
        raise CollectionMismatchError(
            f"the collection {section.collection!r} in {section.uri} was not made by rag_app", other
        )
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    for name, value in asdict(MadeBy.of(config)).items():
        if made.get(name) != value:
            key = _CONFIG_KEYS[name]
            raise CollectionMismatchError(
                f"the collection {section.collection!r} in {section.uri} was made with {key} = "
                f"{made.get(name)!r}, and the configuration ({config.origin(key)}) says {value!r}",
                f"set {key} back, or {other} and ingest into that",
            )


def _row(node: BaseNode) -> dict[str, Any]:
    """Make a Milvus row of a node, as LlamaIndex's store does."""
    from llama_index.core.vector_stores.utils import node_to_metadata_dict

    row = node_to_metadata_dict(node, remove_text=True, text_field="text")
    row.pop("document_id")  # the same as doc_id, kept by LlamaIndex for other stores
    row.pop("ref_doc_id")
    return {**row, "id": node.node_id, "text": node.get_content(), _VECTOR: node.get_embedding()}


def _hex(id_: str) -> str:
    """Let only ids of our making into an expression."""
    if not _HEX_ID.match(id_):
        raise InputError(
            f"{id_!r} is not an id of rag_app (32 hex digits)", "see: rag-app documents --json"
        )
    return id_


def _as_store_error(error: MilvusException, uri: str) -> VectorStoreError:
    message = " ".join(error.message.split())
    if "illegal connection params" in message or "UNAVAILABLE" in message:
        return VectorStoreError(
            f"the Milvus server at {uri} cannot be reached: {message}",
            "start it, or set vector_store.uri; without a server: a path that ends in .db",
        )
    if "auth" in message.lower():
        return VectorStoreError(
            f"the Milvus server at {uri} refuses the token: {message}",
            "set RAG_APP_VECTOR_STORE__TOKEN=user:password",
        )
    return VectorStoreError(f"Milvus ({uri}) failed: {message}", "see rag-app doctor")


def _wait_for_lock(path: Path, timeout: float) -> None:
    """Wait until no other process holds a Lite database, or say which one does."""
    until = time.monotonic() + timeout
    while is_locked(path):
        if time.monotonic() >= until:
            raise VectorStoreError(
                f"the Milvus Lite database {path} is in use by another process{_lock_holder(path)}",
                "wait for it: --wait 600; for many processes at once run a Milvus server and set "
                'vector_store.uri = "http://host:19530"',
            )
        time.sleep(0.2)


def is_locked(path: Path) -> bool:
    """Whether another process holds a Lite database."""
    from milvus_lite.server_manager import server_manager_instance

    if os.path.abspath(path) in server_manager_instance._servers:  # noqa: PTH100 - its own key
        return False  # by this process, which shares it
    try:
        with (path / "LOCK").open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EACCES}
    return False


def _lock_holder(path: Path) -> str:
    """Say which process holds a Lite database: pid, command, since when (Linux tells)."""
    try:
        inode = (path / "LOCK").stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
        pid = next(fields[4] for fields in locks if fields[5].endswith(f":{inode}"))
        process = Path("/proc") / pid
        command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        since = datetime.fromtimestamp(process.stat().st_ctime).astimezone()
    except (OSError, IndexError, StopIteration, UnicodeDecodeError):
        return ""
    return f": pid {pid} ({command}), since {since:%Y-%m-%d %H:%M:%S}"
