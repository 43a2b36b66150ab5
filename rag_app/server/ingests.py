"""Files on their way into collections: one at a time in each, and a state to ask each for."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from rag_app.app import RagApp
from rag_app.errors import RagAppError
from rag_app.schema import IngestProgress, IngestReport
from rag_app.server.errors import RequestError, as_request_error
from rag_app.server.keys import Key
from rag_app.server.uploads import Upload

MOST_WAITING = 1000
MOST_REMEMBERED = 10_000

Status = Literal["in_progress", "completed", "failed", "cancelled"]

_LOG = logging.getLogger("rag_app.server")


@dataclass
class Ingest:
    """One file on its way into one collection.

    Attributes
    ----------
    error
        Why it failed: code and message.
    progress
        The last that was told.
    """

    collection: str
    upload: Upload
    made: float
    status: Status = "in_progress"
    error: tuple[str, str] | None = None
    progress: IngestProgress | None = None
    stop: Event = field(default_factory=Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status != "in_progress"

    def tell(self) -> None:
        """Wake those who watch it. To be called on the loop."""
        # A new event for the next change, not `clear`: one who is
        # slow to wake up would miss this one.
        self.changed.set()
        self.changed = asyncio.Event()

    async def watch(self) -> AsyncIterator["Ingest"]:
        """Yield it now, at each change, and when it has ended."""
        while True:
            # Taken before the state is shown: what changes meanwhile ends the wait at once.
            changed = self.changed
            yield self
            if self.has_ended:
                return
            await changed.wait()


class Ingests:
    """All of a server's ingests. Belongs to one event loop."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Ingest] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def turn(self, collection: str) -> asyncio.Lock:
        """Return the lock that writers of a collection hold in turn."""
        return self._turns.setdefault(collection, asyncio.Lock())

    def find(self, collection: str, id_: str) -> Ingest | None:
        """Return the ingest of a file, if it began in this process."""
        return self._all.get((collection, id_))

    def of(self, collection: str) -> list[Ingest]:
        """Return the ingests into a collection, the oldest first."""
        return [each for (name, _), each in self._all.items() if name == collection]

    def count(self, collection: str, key: Key) -> dict[str, int]:
        """Count the ingests into a collection that are not done and a key may see, by state."""
        seen = [each for each in self.of(collection) if each.upload.may_be_seen_by(key)]
        states = [each.status for each in seen]
        return {name: states.count(name) for name in ("in_progress", "failed", "cancelled")}

    def forget(self, collection: str, id_: str) -> None:
        """Stop an ingest, and forget it."""
        if ingest := self._all.pop((collection, id_), None):
            ingest.stop.set()

    def begin(self, app: RagApp, collection: str, upload: Upload) -> Ingest:
        """Begin to ingest a file; one that is on its way already is returned.

        Raises
        ------
        RequestError
            429 if too many wait.
        """
        before = self.find(collection, upload.id)
        if before is not None and not before.has_ended:
            return before
        if len(self._tasks) >= MOST_WAITING:
            raise RequestError(
                429,
                f"{len(self._tasks)} files wait to be ingested",
                code="overloaded",
                headers={"Retry-After": "10"},
            )
        ingest = Ingest(collection, upload, time.time())
        # Out first: put over itself it would keep its old place, and be forgotten as the oldest.
        self._all.pop((collection, upload.id), None)
        self._all[collection, upload.id] = ingest
        while len(self._all) > MOST_REMEMBERED:
            self._all.popitem(last=False)
        task = asyncio.create_task(self._run(app, ingest))
        # The loop holds tasks weakly: without this one could be collected half done.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ingest

    async def close(self) -> None:
        """Stop all: what is embedded is written, the rest can be asked for again."""
        for ingest in self._all.values():
            ingest.stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, app: RagApp, ingest: Ingest) -> None:
        loop = asyncio.get_running_loop()

        def told(progress: IngestProgress) -> None:
            ingest.progress = progress
            # Progress is told in the thread that ingests, and an
            # asyncio.Event is for its loop alone.
            loop.call_soon_threadsafe(ingest.tell)

        try:
            # Milvus Lite takes reads at the same time, but not writes to one collection.
            async with self.turn(ingest.collection):
                report = await run_in_threadpool(
                    lambda: app.ingest([ingest.upload.path], progress=told, stop=ingest.stop)
                )
            ingest.error, ingest.status = _outcome(report)
        except RagAppError as error:
            refused = as_request_error(error)
            ingest.error, ingest.status = (refused.code or "error", refused.message), "failed"
        except Exception as error:
            _LOG.exception("the ingest of %s failed", ingest.upload.id)
            # The type alone: the message may name a path of this machine, and the log has it.
            ingest.error, ingest.status = ("internal_error", type(error).__name__), "failed"
        finally:
            ingest.tell()


def _outcome(report: IngestReport) -> tuple[tuple[str, str] | None, Status]:
    if report.skipped:
        return ("invalid_file", report.skipped[0].reason), "failed"
    if report.interrupted:
        return ("cancelled", "it was stopped"), "cancelled"
    # Unchanged is done as well: the same upload was given to the collection again.
    if not (report.new or report.changed or report.unchanged):
        return ("invalid_file", "nothing here reads files of this kind"), "failed"
    return None, "completed"


def as_json(ingest: Ingest) -> dict[str, Any]:
    """Return how far an ingest is, as an event."""
    return {
        "file_id": ingest.upload.id,
        "status": ingest.status,
        "last_error": error_of(ingest),
        "progress": ingest.progress.to_dict() if ingest.progress else None,
    }


def error_of(ingest: Ingest) -> dict[str, str] | None:
    """Return why an ingest failed, as OpenAI's ``last_error``."""
    if ingest.error is None:
        return None
    return {"code": ingest.error[0], "message": ingest.error[1]}
