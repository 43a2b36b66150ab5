"""Many files → their documents, in order: several are read at once, in processes of their own.

A process that a file crashes, hangs or fills is replaced, and the file has its reason. Small files
of plain text are read here: nothing in them can do harm, and they are what folders have most of.
"""

import os
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from threading import Event
from typing import Any

from llama_index.core.schema import Document

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.file_types.kinds import is_plain
from rag_app.documents.read import document_of, limits_of, read
from rag_app.documents.worker_process import WorkerProcess
from rag_app.schema import SkippedFile

_SMALL = 1_000_000
"""Bytes up to which a file of plain text is read in this process."""

_AHEAD = 4
"""Files read ahead for each worker, so that a large one keeps none of the others waiting."""

_AHEAD_BYTES = 100_000_000
"""Of all files that are read ahead: their texts wait in memory."""

_LOOK_SECONDS = 0.2
"""Between two looks at `stop` and the clock."""


@dataclass
class Reading:
    """What became of a file: its document, or the reason why it has none.

    Attributes
    ----------
    warned
        What libraries and readers warned of on the way.
    """

    file: SourceFile
    document: Document | None = None
    reason: str = ""
    warned: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> SkippedFile:
        """The line in the report."""
        return SkippedFile(self.file.path, self.reason, str(self.file.root))


def read_all(
    files: Iterable[SourceFile], section: DocumentsSection, stop: Event | None = None
) -> Generator[Reading]:
    """Yield what becomes of each file, in order; the next ones are read meanwhile.

    Parameters
    ----------
    files
        From `discover`.
    section
        The configuration's ``[documents]``.
    stop
        When set, the rest is not read.

    Raises
    ------
    ServiceError
        If no process can be started to read files.
    ExtensionError
        If another package's reader cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="rag_app-") as folder:
        workers = _Workers(section, Path(folder))
        try:
            yield from _in_order(deque(files), workers, section, stop or Event())
        finally:
            workers.close()


def _in_order(
    files: deque[SourceFile], workers: "_Workers", section: DocumentsSection, stop: Event
) -> Generator[Reading]:
    ahead: deque[tuple[Reading, int]] = deque()
    ahead_bytes = 0
    while (files or ahead) and not stop.is_set():
        while files and len(ahead) <= _AHEAD * workers.most and ahead_bytes <= _AHEAD_BYTES:
            file = files.popleft()
            size = _size_of(file)
            reading = Reading(file)
            if size > _SMALL or not is_plain(file.absolute):
                workers.add(reading)
                ahead_bytes += size
                ahead.append((reading, size))
            else:
                ahead.append((reading, 0))
        reading, size = ahead[0]
        if workers.has(reading):
            workers.wait(_LOOK_SECONDS)
            continue
        if not (reading.document or reading.reason):
            _read_here(reading, section)
        workers.wait(0)
        ahead.popleft()
        ahead_bytes -= size
        yield reading


def _read_here(reading: Reading, section: DocumentsSection) -> None:
    try:
        reading.document = read(reading.file, section, reading.warned)
    except UnreadableFileError as error:
        reading.reason = str(error)


def _size_of(file: SourceFile) -> int:
    try:
        return file.absolute.stat().st_size
    except OSError:  # reading it will say why
        return 0


class _Workers:
    """The processes, started when there is something to read for them; each reads one file."""

    def __init__(self, section: DocumentsSection, folder: Path) -> None:
        self.most = section.workers or min(max((os.cpu_count() or 1) // 2, 2), 8)
        self._section = section
        self._limits = limits_of(section)
        self._folder = folder
        self._waiting: deque[Reading] = deque()
        self._idle: list[WorkerProcess] = []
        self._busy: dict[Any, tuple[WorkerProcess, Reading]] = {}
        self._unread: set[int] = set()

    def add(self, reading: Reading) -> None:
        """Let a file be read when its turn comes."""
        self._unread.add(id(reading))
        self._waiting.append(reading)
        self._assign()

    def has(self, reading: Reading) -> bool:
        """Tell whether a file is still to be read."""
        return id(reading) in self._unread

    def wait(self, seconds: float) -> None:
        """Take answers that are there, or come within a time, and hand out what waits."""
        if not self._busy:
            return
        for connection in wait(list(self._busy), seconds):
            self._take(*self._busy[connection])
        now = time.monotonic()
        for worker, reading in list(self._busy.values()):
            if now > worker.deadline:
                self._end(worker, reading, reason=str(worker.give_up()))
        self._assign()

    def close(self) -> None:
        """End all processes."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.kill()

    def _assign(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self.most):
            worker = self._idle.pop() if self._idle else WorkerProcess(self._limits, self._folder)
            reading = self._waiting.popleft()
            self._busy[worker.connection] = (worker, reading)
            worker.ask(reading.file.absolute)

    def _take(self, worker: WorkerProcess, reading: Reading) -> None:
        try:
            answer, again = worker.answer()
        except UnreadableFileError as error:
            self._end(worker, reading, reason=str(error))
            return
        if not answer:  # it only says that it started
            return
        reading.warned = answer["warned"]
        if "text" in answer:
            reading.document = document_of(
                reading.file, self._section, answer["text"], answer["metadata"]
            )
        self._end(worker, reading, reason=answer.get("reason", ""))
        if again:
            self._idle.append(worker)
        else:
            worker.kill()

    def _end(self, worker: WorkerProcess, reading: Reading, reason: str) -> None:
        del self._busy[worker.connection]
        self._unread.discard(id(reading))
        reading.reason = reason
