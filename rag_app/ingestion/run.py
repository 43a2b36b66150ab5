"""Make the collection equal to the folder: plan, read, split, embed, write.

The plan is the difference between the files and the rows; there is no side file. New rows are
written before stale ones are deleted, window by window, so that a document is there in its old or
its new version whenever the process ends, and the next run goes on where this one stopped.

Reading and splitting, embedding, and writing run at the same time, each in a thread of its own,
with one window between them: memory does not grow with the corpus. No stage keeps state of its own,
so each could run elsewhere.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread

from llama_index.core.schema import MetadataMode, TextNode

from rag_app.config.sections import Config
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import read
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder, describe
from rag_app.index.apply import apply_index
from rag_app.ingestion.plan import Plan, make_plan
from rag_app.milvus.collection import CollectionStore, StoredDocument
from rag_app.milvus.store import create_store, find_store
from rag_app.schema import IngestReport, SkippedFile

WINDOW = 2048
"""Nodes embedded in one call and written before the next: enough for the model to sort by length,
few enough that little is lost when the process is killed."""

FLUSH_EVERY = 16
"""Windows between flushes: unflushed rows are searched slowly, and each flush costs a little."""

_STAGES = ("plan", "read", "embed", "write", "total")

Progress = Callable[[int, int], None]


def ingest(
    config: Config,
    paths: Iterable[str | Path],
    *,
    prune: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    stop: Event | None = None,
    embedder: Embedder | None = None,
    roots: Iterable[Path] = (),
) -> IngestReport:
    """Make the collection equal to what is under `paths`.

    Files that are in the collection as they are now are left alone. Of a changed one only the nodes
    whose text is new are embedded, and its stale nodes are deleted. A file that was renamed or
    moved keeps its vectors. What is not under `paths` is never touched.

    Parameters
    ----------
    config
        From `rag_app.load_config`.
    paths
        Folders, files and globs.
    prune
        Delete the documents under `paths` whose file is gone; without it they are only counted.
    dry_run
        Only say what would be done.
    progress
        Called with files done and files to do.
    stop
        When set, the windows under way are finished and the report says ``interrupted``.
    embedder
        One that is loaded already, for those who ingest again and again.
    roots
        Folders that files below them are relative to, besides those ingested before.

    Raises
    ------
    InputError
        If a path does not exist, or there is nothing to read under the paths.
    CollectionMismatchError
        If another configuration made the collection.
    ModelUnavailableError, VectorStoreError
        If the embedder or Milvus cannot be used. What was written stays, and is not embedded again.
    """
    started = time.perf_counter()
    store = find_store(config)
    stored = store.documents() if store else {}
    plan = make_plan(config.documents, paths, stored, roots)
    run = _Run(plan, stored, stop or Event())
    run.seconds["plan"] = time.perf_counter() - started
    if not dry_run:
        if store and apply_index(config, store=store).changes:
            plan.notes.append(f"rebuilt the index as {config.index.type}")
        if plan.to_write:
            embedder = embedder or build_embedder(config.embedding)
            plan.notes.append(describe(embedder, config.embedding))
            store = store or create_store(config, embedder.dimension)
            _Pipeline(config, store, embedder, run).run(progress or (lambda _done, _total: None))
        if store:
            gone = run.to_delete(prune=prune)
            run.delete(store, gone)
            store.settle(len({*stored, *run.done} - {document.id for document in gone}))
    run.seconds["total"] = time.perf_counter() - started
    return run.report(store, pruned=prune, dry_run=dry_run)


@dataclass
class _Run:
    """One ingest: its plan, and what was done of it."""

    plan: Plan
    stored: dict[str, StoredDocument]
    stop: Event
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))
    nodes: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    written: int = 0
    embedded: int = 0
    deleted: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add to a stage's seconds; each stage has one thread."""
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started

    def delete(self, store: CollectionStore, documents: Iterable[StoredDocument]) -> None:
        """Delete whole documents."""
        with self.timed("write"):
            for document in documents:
                store.delete(document.id)
                self.deleted += document.nodes

    def to_delete(self, *, prune: bool) -> list[StoredDocument]:
        """Tell which documents go, now that the new rows are there."""
        written = [file for file in self.plan.to_write if self._is_done(file)]
        files = {file.absolute for file in [*self.plan.unchanged, *written]}
        superseded = [document for document in self.plan.superseded if document.file in files]
        prunes = prune and not self.stop.is_set()
        return [*superseded, *self.plan.removed] if prunes else superseded

    def _is_done(self, file: SourceFile) -> bool:
        return file.document_id in self.done

    def report(self, store: CollectionStore | None, *, pruned: bool, dry_run: bool) -> IngestReport:
        """Sum up."""
        plan = self.plan
        skipped = {skip.path for skip in plan.skipped}

        def paths(files: Iterable[SourceFile]) -> tuple[str, ...]:
            done = (file.path for file in files if dry_run or self._is_done(file))
            return tuple(path for path in done if path not in skipped)

        unchanged = sorted(
            [*plan.unchanged, *(file for file in plan.moved if dry_run or self._is_done(file))]
        )
        removed = [*plan.removed, *plan.superseded]
        return IngestReport(
            new=paths(plan.new),
            changed=paths(plan.changed),
            unchanged=tuple(file.path for file in unchanged),
            removed=tuple(sorted(document.path for document in removed)),
            skipped=tuple(sorted(plan.skipped, key=lambda skip: skip.path)),
            nodes={
                "new": sum(self.nodes.get(file.path, 0) for file in plan.new),
                "changed": sum(self.nodes.get(file.path, 0) for file in plan.changed),
                "unchanged": sum(self.stored[file.document_id].nodes for file in unchanged),
                "removed": sum(document.nodes for document in removed),
            },
            nodes_written=self.written,
            nodes_embedded=self.embedded,
            nodes_reused=self.written - self.embedded,
            nodes_deleted=self.deleted,
            rows=store.count() if store else 0,
            seconds=dict(self.seconds),
            pruned=pruned and not dry_run,
            dry_run=dry_run,
            interrupted=self.stop.is_set(),
            notes=tuple(plan.notes),
        )


@dataclass
class _Window:
    """Nodes to write together, and the files that are complete with them."""

    nodes: list[TextNode] = field(default_factory=list)
    complete: list[tuple[SourceFile, list[str]]] = field(default_factory=list)
    files_done: int = 0


class _Pipeline:
    """Carries a plan out: one thread reads, this one embeds, one writes.

    A window goes from stage to stage through a queue of one. A failure anywhere stops all three and
    is raised from `run`.
    """

    def __init__(
        self, config: Config, store: CollectionStore, embedder: Embedder, run: _Run
    ) -> None:
        self._documents = config.documents
        self._store = store
        self._embedder = embedder
        self._run = run
        self._parser = NodeParser(config.chunking, embedder.tokenize, embedder.content_tokens)
        self._failed = Event()
        self._failures: list[BaseException] = []

    def run(self, progress: Progress) -> None:
        """Read, split, embed and write everything to do; flush at the end."""
        files = self._run.plan.to_write
        progress(0, len(files))
        read_windows: Queue[_Window | None] = Queue(maxsize=1)
        embedded_windows: Queue[_Window | None] = Queue(maxsize=1)

        def write() -> None:
            for number, window in enumerate(self._take_all(embedded_windows), start=1):
                self._write(window)
                if number % FLUSH_EVERY == 0:
                    self._store.flush()
                progress(window.files_done, len(files))

        reader = self._start(lambda: self._put_all(read_windows, self._windows(files)))
        writer = self._start(write)
        try:
            self._put_all(embedded_windows, self._embed_all(self._take_all(read_windows)))
        except BaseException as error:
            self._fail(error)
        reader.join()
        writer.join()
        if self._failures:
            raise self._failures[0]
        self._store.flush()

    def _start(self, work: Callable[[], None]) -> Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self._fail(error)

        thread = Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._failed.set()

    def _put_all(self, queue: "Queue[_Window | None]", windows: Iterable[_Window]) -> None:
        for window in windows:
            self._put(queue, window)
        self._put(queue, None)

    def _put(self, queue: "Queue[_Window | None]", window: _Window | None) -> None:
        while not self._failed.is_set():
            try:
                return queue.put(window, timeout=0.1)
            except Full:
                continue
        return None

    def _take_all(self, queue: "Queue[_Window | None]") -> Iterator[_Window]:
        while not self._failed.is_set():
            try:
                window = queue.get(timeout=0.1)
            except Empty:
                continue
            if window is None:
                return
            yield window

    def _windows(self, files: list[SourceFile]) -> Iterator[_Window]:
        """Read and split; a large file is spread over windows, small ones share one."""
        window = _Window()
        for number, file in enumerate(files, start=1):
            if self._run.stop.is_set():
                break
            try:
                with self._run.timed("read"):
                    nodes, stale = self._prepare(file)
            except UnreadableFileError as error:
                self._run.plan.skipped.append(SkippedFile(file.path, str(error), str(file.root)))
                continue
            while len(window.nodes) + len(nodes) > WINDOW:
                cut = WINDOW - len(window.nodes)
                window.nodes += nodes[:cut]
                nodes = nodes[cut:]
                yield window
                window = _Window(files_done=window.files_done)
                if self._run.stop.is_set():
                    return
            window.nodes += nodes
            window.complete.append((file, stale))
            window.files_done = number
        yield window

    def _prepare(self, file: SourceFile) -> tuple[list[TextNode], list[str]]:
        """Return a file's nodes, with the vectors that are known, and the ids it has no more."""
        document = read(file, self._documents)
        nodes = self._parser.split(document)
        donor = self._run.plan.donors.get(document.metadata["content_hash"])
        own = self._store.rows_of(file.document_id) if file.document_id in self._run.stored else []
        rows = own or (self._store.rows_of(donor) if donor else [])
        known = {row.text: row.vector for row in rows}
        for node in nodes:
            node.embedding = known.get(node.text)
        self._run.nodes[file.path] = len(nodes)
        return nodes, sorted({row.id for row in own} - {node.node_id for node in nodes})

    def _embed_all(self, windows: Iterable[_Window]) -> Iterator[_Window]:
        for window in windows:
            to_embed = [node for node in window.nodes if node.embedding is None]
            with self._run.timed("embed"):
                texts = [node.get_content(MetadataMode.EMBED) for node in to_embed]
                vectors = self._embedder.get_text_embedding_batch(texts)
            for node, vector in zip(to_embed, vectors, strict=True):
                node.embedding = vector
            self._run.embedded += len(to_embed)
            yield window

    def _write(self, window: _Window) -> None:
        """Write new rows first, then delete what their documents have no more."""
        with self._run.timed("write"):
            self._store.add(window.nodes)
            self._run.written += len(window.nodes)
            stale = [id_ for _, ids in window.complete for id_ in ids]
            self._store.delete_ids(stale)
            self._run.deleted += len(stale)
        self._run.done |= {file.document_id for file, _ in window.complete}
