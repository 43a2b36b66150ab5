"""Who asks, and what is there for it: collections, documents, and the links that it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.app import RagApp
from rag_app.milvus.rows import StoredDocument
from rag_app.retrieval.filter_text import parse_filter
from rag_app.schema import Source
from rag_app.server.access import filters_of, of_document
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.links import Links
from rag_app.server.service import Service
from rag_app.server.threads import in_thread


@dataclass(frozen=True)
class Place:
    """Where something stands: what `search` finds and `fetch` takes, as one text.

    Attributes
    ----------
    node
        The passage; empty: the whole document.
    """

    collection: str
    document: str
    node: str = ""

    def __str__(self) -> str:
        # Quoted, as documents of other programs have any ids.
        document = f"{quote(self.collection, safe='')}/{quote(self.document, safe='')}"
        return f"{document}#{quote(self.node, safe='')}" if self.node else document

    @classmethod
    def parse(cls, id_: str) -> "Place":
        """Read what `str` wrote.

        Raises
        ------
        RequestError
            If it is none.
        """
        path, _, node = id_.partition("#")
        collection, slash, document = path.partition("/")
        if not slash or not collection or not document or "/" in document:
            raise RequestError(
                400, f"{id_!r} is no id of a document or passage: take one that a search found"
            )
        return cls(unquote(collection), unquote(document), unquote(node))


@dataclass(frozen=True)
class Visitor:
    """Whoever called, for one call.

    Attributes
    ----------
    base
        What links begin with; empty: there is no server that could show a document.
    collection
        Asked where none is named.
    is_local
        Whether it is a program of this machine's user, who may be told of files and settings.
    """

    service: Service
    key: Key
    base: str
    collection: str
    is_local: bool = False

    async def app(self, collection: str = "") -> RagApp:
        """Return the app of a collection.

        Raises
        ------
        RequestError
            404 if it is not there, or not for this key.
        RagAppError
            As `RagApp.store`.
        """
        # That nothing was ingested yet is told with its remedy to the one who can do it.
        app = await self.service.app(
            collection or self.collection, self.key, to_write=self.is_local
        )
        await in_thread(lambda: app.store)
        return app

    async def nodes(self, place: Place) -> list[BaseNode]:
        """Return the passages of a document that the key may see, in their order.

        Raises
        ------
        RequestError
            404 if there are none.
        """
        async with self.service.admission.working():
            app = await self.app(place.collection)
            filters = _seen(app, self.key, of_document(place.document))
            nodes = await in_thread(lambda: app.store.get_nodes(filters=filters))
        if not nodes:
            raise RequestError(404, f"there is no document {str(place)!r}")
        return sorted(nodes, key=_order)

    async def documents(self, collection: str = "") -> Sequence[StoredDocument]:
        """Return the documents that the key may see, in the order of their paths."""
        async with self.service.admission.working():
            app = await self.app(collection)
            found = await in_thread(lambda: app.store.documents(_seen(app, self.key)))
            return list(found.values())

    def url(self, place: Place, root: str, path: str, page: int | None = None) -> str:
        """Return where a person can look at a document: the server's page of it, or its file."""
        if self.base:
            # Links look at nothing else of a source.
            source = Source(1, place.node, place.document, path, "", "", "", page, None, "")
            return Links(self.base, place.collection, self.key).to(source)
        if root and Path(root).is_absolute():
            return Path(root, path).as_uri() + (f"#page={page}" if page else "")
        return resource_uri(place)


def resource_uri(place: Place) -> str:
    """Return a document as a resource of this protocol."""
    return f"rag-app://documents/{place}".replace("#", "/")


def _seen(app: RagApp, key: Key, *asked: MetadataFilters) -> MetadataFilters | None:
    """Return the filters of key and configuration, which searches have from their retriever."""
    return filters_of(key, parse_filter(app.config.retrieval.filter), *asked)


def _order(node: BaseNode) -> tuple[int, str]:
    return getattr(node, "start_char_idx", None) or 0, node.node_id
