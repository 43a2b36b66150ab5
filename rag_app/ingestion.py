"""Make the collection hold what the folder holds: plan, read, split, embed, write.

The plan is the difference between the files and the rows; there is no side file. New rows are
written before stale ones are deleted, window by window, so that a document is there in its old or
its new version whenever the process ends.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llama_index.core.schema import MetadataMode, TextNode

from rag_app.config import Config
from rag_app.embeddings import Embedder, build_embedder, describe
from rag_app.errors import InputError
from rag_app.file_types import UnreadableFileError
from rag_app.node_parser import NodeParser
from rag_app.readers import SourceFile, content_hash, discover, read
from rag_app.schema import DocumentInfo, IngestReport, SkippedFile
from rag_app.vector_store import (
    CollectionStore,
    StoredDocument,
    apply_index,
    create_store,
    find_store,
    open_store,
)

WINDOW = 2048
"""Nodes embedded in one call and written before the next: enough for the model to sort by length,
few enough that little is lost when the process is killed."""

Progress = Callable[[int, int], None]


def list_documents(config: Config) -> list[DocumentInfo]:
    """List what is in the collection, in the order of paths.

    Raises
    ------
    InputError
        If there is no such collection.
    CollectionMismatchError, VectorStoreError
        As `ingest`.
    """
    return [
        DocumentInfo(
            id=document.id,
            path=document.path,
            title=document.title,
            type=document.type,
            size=document.size,
            nodes=document.nodes,
            content_hash=max(document.hashes, key=document.hashes.__getitem__),
        )
        for document in open_store(config).documents().values()
    ]


@dataclass
class Plan:
    """What an ingest has to do, by document path."""

    new: list[SourceFile] = field(default_factory=list)
    changed: list[SourceFile] = field(default_factory=list)
    unchanged: list[SourceFile] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)

    @property
    def to_do(self) -> list[SourceFile]:
        """Files to read, split and write."""
        return sorted([*self.new, *self.changed])


def ingest(
    config: Config, paths: Iterable[str | Path], *, progress: Progress | None = None
) -> IngestReport:
    """Make the collection hold the files under `paths`.

    Files that are in the collection as they are now are left alone; of a changed one only the nodes
    whose text is new are embedded, and its stale nodes are deleted.

    Parameters
    ----------
    config
        From `rag_app.load_config`.
    paths
        Folders, files and globs.
    progress
        Called with files done and files to do.

    Raises
    ------
    InputError
        If a path does not exist, or there is nothing to read under the paths.
    CollectionMismatchError
        If another configuration made the collection.
    ModelUnavailableError, VectorStoreError
        If the embedder or Milvus cannot be used.
    """
    started = time.perf_counter()
    paths = list(paths)
    store = find_store(config)
    stored = store.documents() if store else {}
    plan = _plan(config, paths, stored)
    if not (plan.to_do or plan.unchanged or plan.skipped):
        raise InputError(
            f"there is no file to read under {', '.join(map(str, paths)) or 'no path at all'}",
            "name folders, files or globs; hidden files need --set documents.hidden=true",
        )
    seconds = defaultdict(float, plan=time.perf_counter() - started)
    notes: list[str] = []
    written = _Written()
    if store and apply_index(config, store):
        notes.append(f"rebuilt the index as {config.index.type}")
    if plan.to_do:
        embedder = build_embedder(config.embedding)
        notes.append(describe(embedder, config.embedding))
        store = store or create_store(config, embedder.dimension)
        writer = _Writer(config, store, embedder, stored, seconds)
        written = writer.run(plan, progress or (lambda _done, _total: None))
    unread = {skip.path for skip in plan.skipped}
    return IngestReport(
        new=tuple(file.path for file in plan.new if file.path not in unread),
        changed=tuple(file.path for file in plan.changed if file.path not in unread),
        unchanged=tuple(file.path for file in plan.unchanged),
        skipped=tuple(sorted(plan.skipped, key=lambda skip: skip.path)),
        nodes_written=written.written,
        nodes_embedded=written.embedded,
        nodes_deleted=written.deleted,
        rows=store.count() if store else 0,
        seconds={**seconds, "total": time.perf_counter() - started},
        notes=tuple(notes),
    )


def _plan(config: Config, paths: list[str | Path], stored: dict[str, StoredDocument]) -> Plan:
    roots = sorted({Path(document.root) for document in stored.values()})
    found = discover(paths, config.documents, roots)
    plan = Plan(skipped=found.skipped)
    for file in found.files:
        before = stored.get(file.document_id)
        try:
            now = content_hash(file, config.documents)
        except UnreadableFileError as error:
            plan.skipped.append(SkippedFile(file.path, str(error)))
            continue
        if before is None:
            plan.new.append(file)
        elif before.is_complete(now, str(file.root)):
            plan.unchanged.append(file)
        else:
            plan.changed.append(file)
    return plan


@dataclass
class _Written:
    """Rows so far."""

    written: int = 0
    embedded: int = 0
    deleted: int = 0


class _Writer:
    """Carries a plan out, a window of nodes at a time."""

    def __init__(
        self,
        config: Config,
        store: CollectionStore,
        embedder: Embedder,
        stored: dict[str, StoredDocument],
        seconds: dict[str, float],
    ) -> None:
        self._documents = config.documents
        self._store = store
        self._embedder = embedder
        self._stored = stored
        self._seconds = seconds
        self._parser = NodeParser(config.chunking, embedder.tokenize, embedder.content_tokens)
        self._window: list[TextNode] = []
        self._stale: list[str] = []
        self._rows = _Written()

    def run(self, plan: Plan, progress: Progress) -> _Written:
        """Read, split, embed and write everything to do; flush at the end."""
        files = plan.to_do
        progress(0, len(files))
        try:
            for done, file in enumerate(files, start=1):
                try:
                    self._take(file)
                except UnreadableFileError as error:
                    plan.skipped.append(SkippedFile(file.path, str(error)))
                if len(self._window) >= WINDOW or done == len(files):
                    self._commit()
                    progress(done, len(files))
        finally:
            self._store.flush()
        return self._rows

    def _take(self, file: SourceFile) -> None:
        """Add a file's nodes to the window; those that are in the collection keep their vectors."""
        with self._timed("read"):
            nodes = self._parser.split(read(file, self._documents))
        known = self._store.vectors_of(file.document_id) if file.document_id in self._stored else {}
        for node in nodes:
            node.embedding = known.pop(node.node_id, None)
            self._window.append(node)
            if len(self._window) >= 2 * WINDOW:  # a large file: do not wait for its end
                self._write()
        self._stale += known

    def _commit(self) -> None:
        """Write the window, then delete what its documents do not have any more."""
        self._write()
        with self._timed("write"):
            self._store.delete_ids(self._stale)
        self._rows.deleted += len(self._stale)
        self._stale = []

    def _write(self) -> None:
        to_embed = [node for node in self._window if node.embedding is None]
        with self._timed("embed"):
            texts = [node.get_content(MetadataMode.EMBED) for node in to_embed]
            vectors = self._embedder.get_text_embedding_batch(texts)
        for node, vector in zip(to_embed, vectors, strict=True):
            node.embedding = vector
        with self._timed("write"):
            self._store.add(self._window)
        self._rows.embedded += len(to_embed)
        self._rows.written += len(self._window)
        self._window = []

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - started
