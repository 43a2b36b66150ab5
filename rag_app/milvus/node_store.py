"""LlamaIndex's `MilvusVectorStore`, mended: calls end in time, async works, any id is safe.

Its own pastes ids unescaped into expressions, so that one can mean all rows, and ties its async
client to the first event loop; this one runs the calls in threads.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from llama_index.vector_stores.milvus import MilvusVectorStore
from pydantic import PrivateAttr

from rag_app.config.sections import VectorStoreSection
from rag_app.errors import StoreUsageError
from rag_app.milvus.backend import Backend, backend_of
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.expression import to_expression
from rag_app.milvus.literals import among, quoted
from rag_app.milvus.pages import pages
from rag_app.milvus.search import VECTOR_FIELD

BATCH_SIZE = 1000
"""Rows per call: 100 to 1,000 were fastest to write on Milvus Lite 3.2."""


_OTHERS = {
    "milvus_partition_name": "give documents a metadata key, and filter by that",
    "milvus_partition_names": "give documents a metadata key, and filter by that",
    "string_expr": "say it with filters=MetadataFilters(…), which are checked and escaped",
    "milvus_search_config": "set index.search_params",
}
"""Options of LlamaIndex's own store, and what to do without them."""


class MilvusStore(MilvusVectorStore):
    """Deletes and returns nodes by ids and filters; subclasses write and search."""

    _timeout: float = PrivateAttr()
    _uri: str = PrivateAttr()
    _backend: Backend = PrivateAttr()

    def __init__(self, section: VectorStoreSection, **settings: Any) -> None:
        super().__init__(
            uri=section.uri,
            token=section.token.get_secret_value(),
            collection_name=section.collection,
            consistency_level=section.consistency,
            use_async_client=False,
            timeout=section.timeout,
            **settings,
        )
        self._timeout = section.timeout
        self._uri = section.uri
        self._backend = backend_of(self.client, section.uri, section.timeout)

    @property
    def backend(self) -> Backend:
        """Which Milvus it is in."""
        return self._backend

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        """Delete all rows of a document."""
        check_options(options)
        self._call("delete", filter=f"doc_id == {quoted(ref_doc_id)}")

    async def adelete(self, ref_doc_id: str, **kwargs: Any) -> None:
        """Delete as `delete` does, from any event loop."""
        await asyncio.to_thread(self.delete, ref_doc_id, **kwargs)

    def delete_ids(self, ids: Sequence[str]) -> None:
        """Delete rows by id."""
        for start in range(0, len(ids), BATCH_SIZE):
            self._call("delete", filter=among("id", ids[start : start + BATCH_SIZE]))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **options: Any,
    ) -> None:
        """Delete the nodes that have one of these ids and are like the filters say.

        Raises
        ------
        StoreUsageError
            If neither is given (`clear` deletes all), or for an option that is not there.
        """
        check_options(options)
        for expression in self._chosen(node_ids, filters):
            self._call("delete", filter=expression)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **kwargs: Any,
    ) -> None:
        """Delete as `delete_nodes` does, from any event loop."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **kwargs)

    def clear(self) -> None:
        """Delete all rows; the collection stays, with its index and what made it."""
        self._call("delete", filter='id != ""')

    async def aclear(self) -> None:
        """Delete as `clear` does, from any event loop."""
        await asyncio.to_thread(self.clear)

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **options: Any,
    ) -> list[BaseNode]:
        """Return the nodes that have one of these ids and are like the filters say, in no order.

        Raises
        ------
        StoreUsageError
            If neither is given, or for an option that is not there.
        """
        check_options(options)
        found: list[BaseNode] = []
        for expression in self._chosen(node_ids, filters):
            for row in self._rows(expression, ["text", "_node_content", VECTOR_FIELD]):
                node = metadata_dict_to_node(dict(row), text=row["text"])
                node.embedding = row[VECTOR_FIELD]
                found.append(node)
        return found

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **kwargs: Any,
    ) -> list[BaseNode]:
        """Return nodes as `get_nodes` does, from any event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, **kwargs)

    def _chosen(
        self, node_ids: Sequence[str] | None, filters: MetadataFilters | None
    ) -> Iterator[str]:
        """Yield expressions for nodes with these ids that are like the filters say."""
        like = to_expression(filters, lite=self._backend.is_lite) if filters else ""
        # None, not empty: a list without ids names no node, and must not come to mean all.
        if node_ids is None and not like:
            raise StoreUsageError("no nodes are named", "give node_ids, filters or both")
        if node_ids is None:
            yield like
            return
        for start in range(0, len(node_ids), BATCH_SIZE):
            ids = among("id", node_ids[start : start + BATCH_SIZE])
            yield f"({like}) and {ids}" if like else ids

    def _nodes(self, expression: str) -> list[TextNode]:
        rows = self._rows(expression, ["text", "_node_content"])
        nodes = [metadata_dict_to_node(dict(row), text=row["text"]) for row in rows]
        return [node for node in nodes if isinstance(node, TextNode)]

    def _rows(self, expression: str, fields: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        try:
            for page in pages(
                self.client, self.collection_name, expression, fields, timeout=self._timeout
            ):
                yield from page
        except FAILURES as error:
            raise as_store_error(error, self._uri) from error

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self.client, method)(
                collection_name=self.collection_name, timeout=self._timeout, **arguments
            )
        except FAILURES as error:
            raise as_store_error(error, self._uri) from error


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of LlamaIndex's own store that would otherwise mean nothing, in silence.

    Raises
    ------
    StoreUsageError
        Naming the option, and what to do instead.
    """
    for name, remedy in _OTHERS.items():
        if options.get(name):
            raise StoreUsageError(f"this store does not support the option {name}", remedy)
