"""Look for rows that should not be as they are, and mend them.

Milvus keeps what it acknowledged, with exceptions: Milvus Lite rolls back to an older state without
a word when its manifest was damaged. The rows themselves tell: each carries its document's content
hash and number of nodes, and its id is a digest of its text.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from rag_app.config.sections import Config
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.node_parser import node_id
from rag_app.documents.read import content_hash
from rag_app.ingestion.run import ingest
from rag_app.milvus.collection import CollectionStore, StoredDocument
from rag_app.milvus.store import open_store
from rag_app.schema import Problem, VerifyReport


def verify(config: Config, *, repair: bool = False) -> VerifyReport:
    """Check every row; with `repair`, mend what can be mended.

    Incomplete and outdated documents are ingested again from their files, duplicate rows are
    deleted, and so are documents whose file is gone, if their folder is still there (it may only be
    unmounted).

    Raises
    ------
    InputError
        If there is no such collection.
    CollectionMismatchError, VectorStoreError, ModelUnavailableError
        As `rag_app.ingestion.run.ingest`.
    """
    store = open_store(config)
    documents = store.documents()
    duplicates = _find_duplicates(store)
    found = [
        (document, problem)
        for document in documents.values()
        for problem in _problems_of(config, document, duplicates.get(document.id, []))
    ]
    problems = [problem for _, problem in found]
    if repair and problems:
        problems = _repair(config, store, found, duplicates)
        documents = store.documents()
    return VerifyReport(tuple(problems), len(documents), store.count())


def _find_duplicates(store: CollectionStore) -> dict[str, list[str]]:
    """Return, by document, ids of rows that are not the digest of their text and its occurrence."""
    texts: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for document_id, id_, text in store.texts():
        if id_ != node_id(document_id, text, 0):
            texts[document_id].setdefault(text, []).append(id_)
    return {
        document_id: wrong
        for document_id, by_text in texts.items()
        if (
            wrong := [
                id_ for text, ids in by_text.items() for id_ in _wrong(document_id, text, ids)
            ]
        )
    }


def _wrong(document_id: str, text: str, ids: list[str]) -> list[str]:
    right = {node_id(document_id, text, occurrence) for occurrence in range(1, len(ids) + 1)}
    return [id_ for id_ in ids if id_ not in right]


def _problems_of(
    config: Config, document: StoredDocument, duplicates: list[str]
) -> Iterator[Problem]:
    def problem(kind: str, detail: str) -> Problem:
        return Problem(kind, document.path, detail)

    if duplicates:
        yield problem("duplicate", f"{len(duplicates)} rows that are not of its text")
    if len(document.hashes) > 1:
        yield problem("outdated", f"rows of {len(document.hashes)} versions")
    elif document.nodes - len(duplicates) < document.node_count:
        missing = document.node_count - document.nodes + len(duplicates)
        yield problem("incomplete", f"{missing} of {document.node_count} rows are missing")
    if not document.file.exists():
        yield problem("orphaned", f"{document.file} is not there any more")
        return
    file = SourceFile(document.path, document.folder)
    try:
        if content_hash(file, config.documents) not in document.hashes:
            yield problem("outdated", "the file was changed since it was ingested")
    except UnreadableFileError as error:
        yield problem("outdated", f"the file cannot be read any more: {error}")


def _repair(
    config: Config,
    store: CollectionStore,
    found: list[tuple[StoredDocument, Problem]],
    duplicates: dict[str, list[str]],
) -> list[Problem]:
    for ids in duplicates.values():
        store.delete_ids(ids)
    gone = {
        document.id
        for document, problem in found
        if problem.kind == "orphaned" and document.folder.is_dir()
    }
    for id_ in gone:
        store.delete(id_)
    store.flush()
    files = {
        str(document.file)
        for document, problem in found
        if problem.kind in {"incomplete", "outdated"} and document.file.is_file()
    }
    if files:
        ingest(config, sorted(files))
    after = store.documents()
    still = {
        (document.id, problem.kind)
        for document in after.values()
        for problem in _problems_of(config, document, [])
    }
    return [
        replace(problem, repaired=(document.id, problem.kind) not in still)
        for document, problem in found
    ]
