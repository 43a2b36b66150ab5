"""The nodes of a collection as a LlamaIndex document store, for what asks for them by their ids."""

import asyncio
from typing import Any, NoReturn

from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore.keyval_docstore import (
    DEFAULT_COLLECTION_DATA_SUFFIX,
    DEFAULT_METADATA_COLLECTION_SUFFIX,
    KVDocumentStore,
)
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.storage.docstore.utils import doc_to_json
from llama_index.core.storage.kvstore.types import BaseKVStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rag_app.errors import InputError
from rag_app.milvus.node_store import MilvusStore

_ALL = MetadataFilters(filters=[MetadataFilter(key="id", value="", operator="!=")])


_OF_NODES = (DEFAULT_COLLECTION_DATA_SUFFIX, DEFAULT_METADATA_COLLECTION_SUFFIX)


class CollectionDocstore(KVDocumentStore):
    """What is in an open collection, to be read: nodes, their documents, their hashes.

    LlamaIndex's `PrevNextNodePostprocessor` wants one, and so do its summary and keyword indexes.

    Parameters
    ----------
    store
        From `rag_app.open_store`, or `RagApp.store`.
    """

    def __init__(self, store: MilvusStore) -> None:
        super().__init__(_Rows(store))


class _Rows(BaseKVStore):
    """A key is a node's id, or a document's where documents are asked for."""

    def __init__(self, store: MilvusStore) -> None:
        self._store = store

    def get(self, key: str, collection: str = "") -> dict[str, Any] | None:
        if collection.endswith(_OF_NODES):
            nodes = self._store.get_nodes([key])
        else:
            of_document = MetadataFilter(key="doc_id", value=key)
            nodes = self._store.get_nodes(filters=MetadataFilters(filters=[of_document]))
        return next(iter(_told(nodes, collection).values()), None)

    async def aget(self, key: str, collection: str = "") -> dict[str, Any] | None:
        return await asyncio.to_thread(self.get, key, collection)

    def get_all(self, collection: str = "") -> dict[str, dict[str, Any]]:
        return _told(self._store.get_nodes(filters=_ALL), collection)

    async def aget_all(self, collection: str = "") -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(self.get_all, collection)

    def put(self, key: str, val: dict[str, Any], collection: str = "") -> NoReturn:
        _refuse()

    async def aput(self, key: str, val: dict[str, Any], collection: str = "") -> NoReturn:
        _refuse()

    def put_all(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    async def aput_all(self, *_: Any, **__: Any) -> NoReturn:
        _refuse()

    def delete(self, key: str, collection: str = "") -> NoReturn:
        _refuse()

    async def adelete(self, key: str, collection: str = "") -> NoReturn:
        _refuse()


def _told(nodes: list[BaseNode], collection: str) -> dict[str, dict[str, Any]]:
    """Return what LlamaIndex keeps of nodes in one of its three collections."""
    # LlamaIndex puts the namespace of the document store before it.
    if collection.endswith(DEFAULT_COLLECTION_DATA_SUFFIX):
        return {node.node_id: doc_to_json(node) for node in nodes}
    if collection.endswith(DEFAULT_METADATA_COLLECTION_SUFFIX):
        return {
            node.node_id: {"doc_hash": node.hash, "ref_doc_id": node.ref_doc_id} for node in nodes
        }
    documents: dict[str, RefDocInfo] = {}
    for node in nodes:
        if node.ref_doc_id:
            document = documents.setdefault(node.ref_doc_id, RefDocInfo(metadata=node.metadata))
            document.node_ids.append(node.node_id)
    return {id_: document.to_dict() for id_, document in documents.items()}


def _refuse() -> NoReturn:
    raise InputError(
        "a collection's document store can only be read",
        "write with rag_app.ingest, or with the vector store's add and delete",
    )
