"""Look for rows that should not be as they are, and mend them.

The rows themselves tell: each carries its document's content hash and number of nodes, and its id
is a digest of its text. Rows that a LlamaIndex application put in are counted and left alone.
"""

import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rag_app.config.sections import Config
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.node_parser import node_id
from rag_app.documents.read import content_hash
from rag_app.index.bench.recall import measure_recall
from rag_app.ingestion.absence import Absence, Doubt
from rag_app.ingestion.plan import mostly_gone
from rag_app.ingestion.run import ingest
from rag_app.milvus.chosen import read_chosen
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.rows import StoredDocument
from rag_app.milvus.store import find_index, open_store
from rag_app.milvus.stored_documents import names_of
from rag_app.milvus.writing import ENOUGH, in_turn
from rag_app.schema import Problem, VerifyReport

LEAST_RECALL = 0.8
"""Of an index that is sound. Poor parameters find more than that."""


@in_turn(ENOUGH)
def verify(config: Config, *, repair: bool = False) -> VerifyReport:
    """Check every row and the index; with `repair`, mend what can be mended.

    Incomplete and outdated documents are ingested again from their files, duplicate rows are
    deleted, and so are documents whose file is gone: not if it cannot be looked for, nor if they
    are more than half of their folder's, which may only be unmounted. An index that finds too
    little is built again. Which documents are gone with rows that a database lost nobody knows:
    what is left is taken for all there is from then on.

    Raises
    ------
    InputError
        If there is no such collection.
    CollectionMismatchError, VectorStoreError, ModelUnavailableError
        As `rag_app.ingestion.run.ingest`.
    """
    # Counted, a collection that lost rows would be refused, and that is to be told here.
    store = open_store(config, counted=False)
    documents = store.documents()
    duplicates = _find_duplicates(store)
    inspector = _Inspector(config, documents.values())
    found = [
        (document, problem)
        for document in documents.values()
        for problem in inspector.problems_of(document, duplicates.get(document.id, []))
    ]
    problems = [problem for _, problem in found]
    lost = store.lost()  # a repair settles for what is left
    if repair and problems:
        problems = _repair(config, store, documents.values(), found, duplicates)
        documents = store.documents()
    rows = store.count()
    name = config.vector_store.collection
    if lost:
        problems.append(Problem("lost", name, f"{lost}; ingest the documents again"))
    if repair:
        store.settle(len(documents))
    recall, probed = _probe(config, repair=repair)
    foreign = rows - sum(document.nodes for document in documents.values())
    return VerifyReport((*problems, *probed), len(documents), rows, foreign, recall)


def _probe(config: Config, *, repair: bool) -> tuple[float | None, list[Problem]]:
    """Compare the index with an exact search; build it again if it finds too little."""
    section = config.vector_store
    index = find_index(config)
    try:
        built = index.read() if index else None
        if index is None or built is None:
            return None, []
        chosen = read_chosen(index.properties(), built)
        asked = [{**(chosen.search_params if chosen else {}), **config.index.search_params}]
        recall = next(measure_recall(index, built, asked), None)
        if recall is None or recall >= LEAST_RECALL:
            return recall, []
        detail = f"a search finds {recall:.2f} of what an exact search finds"
        if repair:
            index.replace(built)
            recall = next(measure_recall(index, built, asked))
        mended = recall >= LEAST_RECALL
        return recall, [Problem("index", section.collection, detail, repaired=mended)]
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


def _find_duplicates(store: CollectionStore) -> dict[str, list[str]]:
    """Return, by document, ids of rows that are not the digest of their text and its occurrence."""
    texts: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for document_id, id_, text in store.texts():
        # Most rows are the first of their text, and right: only the others are kept in memory.
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
    # From the second on: the first of each text was left out where it was right.
    right = {node_id(document_id, text, occurrence) for occurrence in range(1, len(ids) + 1)}
    return [id_ for id_ in ids if id_ not in right]


class _Inspector:
    """Looks at documents and their files."""

    def __init__(self, config: Config, documents: Iterable[StoredDocument]) -> None:
        documents = list(documents)
        self._config = config
        self._names = names_of(documents)
        self._absence = Absence(document.file for document in documents)

    def problems_of(
        self, document: StoredDocument, duplicates: Sequence[str] = ()
    ) -> Iterator[Problem]:
        """Say what is wrong with a document's rows."""

        def problem(kind: str, detail: str) -> Problem:
            return Problem(kind, self._names[document.id], detail)

        if duplicates:
            yield problem("duplicate", f"{len(duplicates)} rows that are not of its text")
        if len(document.hashes) > 1:
            yield problem("outdated", f"rows of {len(document.hashes)} versions")
        elif document.nodes - len(duplicates) < document.node_count:
            missing = document.node_count - document.nodes + len(duplicates)
            yield problem("incomplete", f"{missing} of {document.node_count} rows are missing")
        seen = self._absence.look_for(document.folder, document.file)
        if isinstance(seen, Doubt):
            detail = f"its file cannot be looked for in {seen}"
            if seen.is_bare:
                folder = shlex.quote(str(seen.place))
                detail += f"; if it was deleted: rag-app ingest {folder} --prune --yes"
            yield problem("unseen", detail)
            return
        if not seen:
            yield problem("orphaned", f"{document.file} is not there any more")
            return
        file = SourceFile(document.path, document.folder)
        try:
            if content_hash(file, self._config.documents) not in document.hashes:
                yield problem("outdated", "the file was changed since it was ingested")
        except UnreadableFileError as error:
            yield problem("outdated", f"the file cannot be read any more: {error}")


def _repair(
    config: Config,
    store: CollectionStore,
    documents: Iterable[StoredDocument],
    found: list[tuple[StoredDocument, Problem]],
    duplicates: dict[str, list[str]],
) -> list[Problem]:
    for ids in duplicates.values():
        store.delete_ids(ids)
    gone = [document for document, problem in found if problem.kind == "orphaned"]
    most = mostly_gone(documents, gone)
    for document in gone:
        if document.root not in most:
            store.delete_ids([row.id for row in store.rows_of(document.id)])
    store.flush()
    files = {
        str(document.file)
        for document, problem in found
        if problem.kind in {"incomplete", "outdated"} and os.path.isfile(document.file)  # noqa: PTH113
    }
    if files:
        store.settle(len(store.documents()))  # an ingest refuses a collection that lost rows
        ingest(config, sorted(files))
    # Looked at anew: mended is what is not wrong any more, and not what was tried.
    after = store.documents()
    # A new one: the other remembers what it saw of folders.
    inspector = _Inspector(config, after.values())
    still = {
        (document.id, problem.kind)
        for document in after.values()
        for problem in inspector.problems_of(document)
    }

    def mended(document: StoredDocument, problem: Problem) -> Problem:
        if problem.kind == "orphaned" and document.root in most:
            lost, all_ = most[document.root]
            why = f"; so are {lost} of {all_} in {document.root}: rag-app ingest … --prune"
            return replace(problem, detail=problem.detail + why)
        return replace(problem, repaired=(document.id, problem.kind) not in still)

    return [mended(document, problem) for document, problem in found]
