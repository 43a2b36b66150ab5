"""The documents of the collection: list them, show one, remove some."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.milvus.collection import StoredDocument
from rag_app.milvus.store import open_store
from rag_app.schema import DocumentInfo


def list_documents(config: Config) -> list[DocumentInfo]:
    """List what is in the collection, in the order of paths.

    Raises
    ------
    InputError
        If there is no such collection.
    CollectionMismatchError, VectorStoreError
        As `rag_app.milvus.store.find_store`.
    """
    return [_info(document) for document in open_store(config).documents().values()]


def show_document(config: Config, path: str) -> dict[str, Any]:
    """Return one document with the texts of its nodes, in document order.

    Raises
    ------
    InputError
        If no document has this path or id.
    """
    store = open_store(config)
    (document,) = _find(store.documents(), [path], exact=True)
    nodes = store.nodes_of(document.id)
    return {
        **_info(document).to_dict(),
        "node_texts": [{"id": node.node_id, "text": node.get_content()} for node in nodes],
    }


def remove_documents(
    config: Config, patterns: Iterable[str], *, dry_run: bool = False
) -> list[DocumentInfo]:
    """Delete documents by path, id or glob over paths; return them.

    Raises
    ------
    InputError
        If a pattern matches no document: nothing is deleted then.
    """
    store = open_store(config)
    documents = store.documents()
    found = list(_find(documents, patterns, exact=False))
    if not dry_run:
        for document in found:
            store.delete(document.id)
        store.settle(len(documents) - len(found))
    return [_info(document) for document in found]


def _find(
    documents: Mapping[str, StoredDocument], patterns: Iterable[str], *, exact: bool
) -> Iterator[StoredDocument]:
    found: dict[str, StoredDocument] = {}
    for pattern in patterns:
        matching = {
            document.id: document
            for document in documents.values()
            if pattern in {document.path, document.id}
            or (not exact and fnmatchcase(document.path, pattern))
        }
        if not matching:
            raise InputError(
                f"no document in the collection is called {pattern!r}",
                "see which there are: rag-app documents list",
            )
        found |= matching
    return iter(found.values())


def _info(document: StoredDocument) -> DocumentInfo:
    return DocumentInfo(
        id=document.id,
        path=document.path,
        title=document.title,
        type=document.type,
        size=document.size,
        nodes=document.nodes,
        content_hash=max(document.hashes, key=document.hashes.__getitem__),
    )
