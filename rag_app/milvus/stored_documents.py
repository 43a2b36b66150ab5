"""The documents of the collection: list them, show one, remove some."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.milvus.rows import StoredDocument
from rag_app.milvus.store import open_store
from rag_app.schema import DocumentInfo


def list_documents(config: Config, pattern: str = "") -> list[DocumentInfo]:
    """List what is in the collection, in the order of paths.

    Parameters
    ----------
    pattern
        A glob over paths, relative or absolute; empty: all.

    Raises
    ------
    InputError
        If there is no such collection.
    CollectionMismatchError, VectorStoreError
        As `rag_app.milvus.store.find_store`.
    """
    documents = open_store(config).documents().values()
    return [_info(each) for each in documents if not pattern or _is_like(each, pattern)]


def names_of(documents: Iterable[DocumentInfo | StoredDocument]) -> dict[str, str]:
    """Return a name for each document by id: its path, and the absolute one if two share it."""
    documents = list(documents)
    roots = defaultdict(set)
    for document in documents:
        roots[document.path].add(document.root)
    return {
        document.id: str(Path(document.root, document.path))
        if len(roots[document.path]) > 1
        else document.path
        for document in documents
    }


def show_document(config: Config, path: str) -> dict[str, Any]:
    """Return one document with the texts of its nodes, in document order.

    Parameters
    ----------
    path
        Relative, absolute, or the id.

    Raises
    ------
    InputError
        If no document has this path or id, or several have the path.
    """
    store = open_store(config)
    document = next(_find(store.documents(), [path], exact=True))
    nodes = store.nodes_of(document.id)
    return {
        **_info(document).to_dict(),
        "node_texts": [
            {
                "id": node.node_id,
                "page": node.metadata.get("page"),
                "headings": node.metadata.get("headings", ""),
                "text": node.get_content(),
            }
            for node in nodes
        ],
    }


def remove_documents(
    config: Config, patterns: Iterable[str], *, dry_run: bool = False
) -> list[DocumentInfo]:
    """Delete documents by path, id or glob over paths; return them.

    Raises
    ------
    InputError
        If a pattern matches no document, or is a path that several have: nothing is deleted then.
    """
    store = open_store(config)
    documents = store.documents()
    # To the end, before anything is deleted: the last pattern may be refused.
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
        named = [
            document
            for document in documents.values()
            if pattern in {document.path, document.id, str(document.file)}
        ]
        # A relative path may be in several folders; an absolute one, or an id, means one document.
        if roots := sorted({d.root for d in named if d.path == pattern != str(d.file)})[1:]:
            first = min(document.root for document in named)
            raise InputError(
                f"{pattern!r} is in {', '.join([first, *roots])}",
                f"say which: {Path(first, pattern)}",
            )
        if not named and not exact:
            named = [each for each in documents.values() if _is_like(each, pattern)]
        if not named:
            raise InputError(
                f"no document in the collection is called {pattern!r}",
                "see which there are: rag-app documents list",
            )
        found |= {document.id: document for document in named}
    return iter(found.values())


def _is_like(document: StoredDocument, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (document.path, str(document.file)))


def _info(document: StoredDocument) -> DocumentInfo:
    return DocumentInfo(
        id=document.id,
        root=document.root,
        path=document.path,
        title=document.title,
        type=document.type,
        size=document.size,
        nodes=document.nodes,
        # An ingest that was interrupted leaves rows of two versions.
        content_hash=max(document.hashes, key=document.hashes.__getitem__),
    )
