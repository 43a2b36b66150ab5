"""Carry a plan out: read and split, embed, and write, at the same time.

Each stage has a thread of its own, with one window of nodes between them: memory does not grow with
the corpus. No stage keeps state of its own, so each could run elsewhere.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread

from llama_index.core.schema import Document, MetadataMode, TextNode

from rag_app.config.sections import Config, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.reading import Reading, read_all
from rag_app.embedding.base import Embedder
from rag_app.errors import RowsRefusedError
from rag_app.ingestion.plan import Plan
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.rows import StoredRow, context_of
from rag_app.milvus.store import create_store
from rag_app.schema import FileWarning, IngestProgress, SkippedFile

WINDOW = 2048
"""Nodes sorted by length together and written before the next: enough for the model to pad little,
few enough that little is lost when the process is killed."""

FIRST_WINDOW = 128
"""Nodes of the first window; each further one has twice as many, up to `WINDOW`: so that the model
does not wait for thousands of nodes to be read, and a small folder is written while it embeds."""

FLUSH_EVERY = 16
"""Windows between flushes: unflushed rows are searched slowly, and each flush costs a little."""

FIRST_SLICE = 32
"""Nodes in the first call of the embedder; the following calls take about `SLICE_SECONDS`."""

SLICE_SECONDS = 1.0
"""Between two looks at Ctrl-C and two ticks of the progress bar."""

STAGES = ("plan", "read", "embed", "write", "index", "total")

ShowProgress = Callable[[IngestProgress], None]


@dataclass
class Tally:
    """What was done of a plan so far."""

    stop: Event
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    nodes: dict[SourceFile, int] = field(default_factory=dict)
    done: set[SourceFile] = field(default_factory=set)
    left_out: set[SourceFile] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    written: int = 0
    embedded: int = 0
    deleted: int = 0
    warnings: list[FileWarning] = field(default_factory=list)

    def read(self, files: Iterable[SourceFile], section: DocumentsSection) -> Iterator[Reading]:
        """Read files until it is asked to stop, and keep what was warned of on the way."""
        with closing(read_all(files, section, self.stop)) as readings:
            while True:
                with self.timed("read"):
                    reading = next(readings, None)
                if reading is None:
                    return
                self.warnings += [FileWarning(reading.file.path, each) for each in reading.warned]
                yield reading

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add to a stage's seconds; each stage has one thread."""
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


@dataclass
class _Window:
    """Nodes to write together, with the bytes of file that each stands for."""

    nodes: list[TextNode] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    complete: list[tuple[SourceFile, list[str]]] = field(default_factory=list)
    skipped_bytes: int = 0


class Pipeline:
    """Carries a plan out: one thread reads, this one embeds, one writes.

    A collection that is not there yet is made by the one that writes, while the first nodes are
    embedded. A window goes from stage to stage through a queue of one. A failure anywhere stops all
    three and is raised from `run`.
    """

    def __init__(
        self,
        config: Config,
        store: CollectionStore | None,
        embedder: Embedder,
        plan: Plan,
        tally: Tally,
    ) -> None:
        self._config = config
        self._store = store
        self._embedder = embedder
        self._plan = plan
        self._tally = tally
        self._parser = NodeParser(config.chunking, embedder.tokenize, embedder.content_tokens)
        self._failed = Event()
        self._failures: list[BaseException] = []
        self._unfinished: set[str | None] = set()
        self._slice = FIRST_SLICE

    def run(self, show: ShowProgress) -> CollectionStore:
        """Read, split, embed and write everything to do; flush at the end; return where it is."""
        files = self._plan.to_write
        self._progress = _Progress(show, self._plan, len(files))
        self._progress.tell()
        read_windows: Queue[_Window | None] = Queue(maxsize=1)
        embedded_windows: Queue[_Window | None] = Queue(maxsize=1)

        stores: list[CollectionStore] = []

        def write() -> None:
            store = self._store or create_store(self._config, self._embedder.dimension)
            stores.append(store)
            for number, window in enumerate(self._take_all(embedded_windows), start=1):
                self._write(store, window)
                if number % FLUSH_EVERY == 0:
                    store.flush()
                self._progress.tell(files=len(self._tally.done) + len(self._tally.left_out))

        reader = self._start(lambda: self._put_all(read_windows, self._windows(files)))
        writer = self._start(write)
        try:
            self._put_all(embedded_windows, self._embed_all(self._take_all(read_windows)))
        except BaseException as error:
            self._fail(error)
        reader.join()
        writer.join()
        if self._failures:
            # The first: others may have failed because of it.
            raise self._failures[0]
        (store,) = stores
        store.flush()
        return store

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
                # Never for good: a stage that failed takes nothing out any more.
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
        window, most = _Window(), min(FIRST_WINDOW, WINDOW)
        for reading in self._tally.read(files, self._config.documents):
            file = reading.file
            size = self._plan.sizes[file]
            if reading.document is None:
                self._leave_out(file, reading.reason)
                # They count as done, or the bar would never get to its end.
                window.skipped_bytes += size
                continue
            with self._tally.timed("read"):
                nodes, stale = self._prepare(file, reading.document)
            share = size / len(nodes) if nodes else 0.0
            while len(window.nodes) + len(nodes) > most:
                cut = most - len(window.nodes)
                window.nodes += nodes[:cut]
                window.shares += [share] * cut
                nodes = nodes[cut:]
                yield window
                window, most = _Window(), min(2 * most, WINDOW)
                # In the middle of a file: the next run finds these rows, and takes their vectors.
                if self._tally.stop.is_set():
                    return
            window.nodes += nodes
            window.shares += [share] * len(nodes)
            window.complete.append((file, stale))
        # Perhaps with no node: its files may have lost some, and are complete with it.
        yield window

    def _leave_out(self, file: SourceFile, reason: str) -> None:
        self._plan.skipped.append(SkippedFile(file.path, reason, str(file.root)))
        self._tally.left_out.add(file)

    def _prepare(self, file: SourceFile, document: Document) -> tuple[list[TextNode], list[str]]:
        """Return a file's nodes, with the vectors that are known, and the ids it has no more."""
        nodes = self._parser.split(document)
        is_there = file.document_id in self._plan.ids
        own = self._rows_of(file.document_id) if is_there else []
        donor = self._plan.donors.get(document.metadata["content_hash"])
        # By what is embedded: what only moved within the file is not embedded again.
        known = self._vectors(own)
        for earlier in self._plan.earlier.get(file, ()):
            known |= self._vectors(self._rows_of(earlier.id))
        if donor and not known:
            known = self._vectors(self._rows_of(donor))
        for node in nodes:
            node.embedding = known.get((context_of(node), node.text))
        self._tally.nodes[file] = len(nodes)
        return nodes, sorted({row.id for row in own} - {node.node_id for node in nodes})

    def _vectors(self, rows: Sequence[StoredRow]) -> dict[tuple[str, str], list[float]]:
        has_context = self._config.chunking.contextualize != "none"
        return {(row.headings if has_context else "", row.text): row.vector for row in rows}

    def _rows_of(self, document_id: str) -> list[StoredRow]:
        return self._store.rows_of(document_id) if self._store else []

    def _embed_all(self, windows: Iterable[_Window]) -> Iterator[_Window]:
        for window in windows:
            with self._tally.timed("embed"):
                self._embed(window)
            yield window

    def _embed(self, window: _Window) -> None:
        """Embed a window in slices, longest nodes first; on Ctrl-C the rest of it is dropped."""
        to_embed = [at for at, node in enumerate(window.nodes) if node.embedding is None]
        to_embed.sort(key=lambda at: -len(window.nodes[at].text))
        known = sum(window.shares) - sum(window.shares[at] for at in to_embed)
        self._progress.tell(bytes_=window.skipped_bytes + known)
        while to_embed and not self._tally.stop.is_set():
            slice_, to_embed = to_embed[: self._slice], to_embed[self._slice :]
            started = time.perf_counter()
            texts = [window.nodes[at].get_content(MetadataMode.EMBED) for at in slice_]
            vectors = self._embedder.get_text_embedding_batch(texts)
            for at, vector in zip(slice_, vectors, strict=True):
                window.nodes[at].embedding = vector
            self._tally.embedded += len(slice_)
            self._progress.tell(bytes_=sum(window.shares[at] for at in slice_), nodes=len(slice_))
            # The last one of a window is shorter, and would tell a wrong speed.
            if len(slice_) == self._slice:
                faster = SLICE_SECONDS / max(time.perf_counter() - started, 1e-6)
                self._slice = max(1, min(WINDOW, int(self._slice * min(faster, 4.0))))
        if to_embed:
            self._drop(window, set(to_embed))

    def _drop(self, window: _Window, unembedded: set[int]) -> None:
        """Leave nodes without vectors, and the end of their files, to the next run."""
        self._unfinished |= {window.nodes[at].ref_doc_id for at in unembedded}
        window.nodes = [node for at, node in enumerate(window.nodes) if at not in unembedded]

    def _write(self, store: CollectionStore, window: _Window) -> None:
        """Write new rows first, then delete what their documents have no more."""
        with self._tally.timed("write"):
            self._add(store, window.nodes)
            complete = [
                (file, stale)
                for file, stale in window.complete
                if file.document_id not in self._unfinished
            ]
            stale = [id_ for _, ids in complete for id_ in ids]
            store.delete_ids(stale)
            self._tally.deleted += len(stale)
        self._tally.done |= {file for file, _ in complete}

    def _add(self, store: CollectionStore, nodes: list[TextNode]) -> None:
        """Write nodes; where Milvus does not take them, all but those of the files at fault."""
        try:
            store.add(nodes)
            self._tally.written += len(nodes)
        except RowsRefusedError:
            of_file: defaultdict[str | None, list[TextNode]] = defaultdict(list)
            for node in nodes:
                of_file[node.ref_doc_id].append(node)
            refused: dict[str | None, RowsRefusedError] = {}
            for document_id, own in of_file.items():
                try:
                    store.add(own)
                    self._tally.written += len(own)
                except RowsRefusedError as error:
                    refused[document_id] = error
            for file in self._plan.to_write:
                if reason := refused.get(file.document_id):
                    self._refuse(store, file, reason)

    def _refuse(self, store: CollectionStore, file: SourceFile, reason: RowsRefusedError) -> None:
        self._unfinished.add(file.document_id)
        if file not in self._tally.left_out:
            self._leave_out(file, reason.message)
        if file.document_id not in self._plan.ids:  # an older version stays
            store.delete(file.document_id)


class _Progress:
    """Adds up what the stages tell, and passes it on."""

    def __init__(self, show: ShowProgress, plan: Plan, files: int) -> None:
        self._show = show
        self._files = files
        self._total = sum(plan.sizes[file] for file in plan.to_write) or 1
        self._started = time.perf_counter()
        self._lock = Lock()
        self._done, self._bytes, self._nodes = 0, 0.0, 0

    def tell(self, *, files: int | None = None, bytes_: float = 0.0, nodes: int = 0) -> None:
        """Take notice; called from two threads."""
        with self._lock:
            self._done = self._done if files is None else files
            self._bytes += bytes_
            self._nodes += nodes
            # Files' shares are fractions of their sizes, and may not add up to the whole.
            share = 1.0 if self._done == self._files else min(self._bytes / self._total, 1.0)
            seconds = time.perf_counter() - self._started
            # Within the lock: two threads tell, and whoever draws is called by one at a time.
            self._show(IngestProgress(self._done, self._files, self._nodes, share, seconds))
