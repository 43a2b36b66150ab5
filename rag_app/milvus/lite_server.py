"""The process that holds a Milvus Lite database serves it to the others of its user.

Milvus Lite answers by gRPC anyway; here it listens on a Unix socket in a folder that only its user
can enter, and nowhere else. Its engine takes one writer at a time for a collection, and a search
that runs beside a flush can miss the rows that are just moved into a file: `Servicer` gives each
collection's calls their turns.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Condition, RLock
from typing import Any

import grpc
from milvus_lite import db as lite_db
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import DEFAULT_DATABASE_NAME, MilvusLite
from milvus_lite.exceptions import MilvusLiteError
from milvus_lite.schema.persistence import load_schema
from pymilvus.grpc_gen import milvus_pb2_grpc

from rag_app.milvus.lite_check import SCHEMA, find_database_faults, find_faults
from rag_app.milvus.lite_engine import drop_written_logs, teach_engine
from rag_app.milvus.lite_locks import SOCKET_FOLDER, index_lock, turn

FAULTS = "/rag_app.Lite/Faults"
"""The call by which others ask what is wrong with a collection's files."""

LEAVE_ALIAS = "/rag_app.Lite/LeaveAlias"
"""The call by which others have a collection renamed, its former name becoming its alias."""

GRACE = 5.0
"""Seconds in which the calls of others may end when the holder goes; they are sent again then."""

MOST_CALLS = 256
"""At once. Calls that wait for their turn count, so that it must be more than all clients have."""

_MOST_BYTES = 256 * 1024 * 1024
"""In a message: Milvus Lite's own limit."""

_OPTIONS = (
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.max_send_message_length", _MOST_BYTES),
    # Clients ping to notice a holder that hangs; gRPC's defaults hang up on who does.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
)

_SEARCHES = ("Search", "HybridSearch", "Query", "Delete")
"""What needs a loaded collection; a deletion searches for what it deletes."""

_READS = ("Search", "HybridSearch", "Query", "GetCollectionStatistics")
_WRITES = ("Insert", "Upsert", "Delete", "Flush", "AlterCollection", "CreatePartition")
_CHANGES = ("LoadCollection", "ReleaseCollection", "CreateIndex", "DropIndex", "DropPartition")
_DATABASE_CHANGES = (
    "CreateCollection",
    "DropCollection",
    "RenameCollection",
    "TruncateCollection",
    "CreateAlias",
    "AlterAlias",
    "DropAlias",
)
BACK_UP = "/rag_app.Lite/BackUp"
"""The call by which others have the database copied."""

_LONGEST_PATH = 100
"""Bytes: the address of a Unix socket has 108 (Linux) or 104 (macOS)."""


class DamagedError(MilvusLiteError):  # type: ignore[misc]
    """A collection whose files were changed by something else."""


class Gate:
    """One collection's turns: one writer at a time, and readers while nothing is moved."""

    def __init__(self) -> None:
        self.writer = RLock()  # reentrant: a write may flush within its own turn
        self._changed = Condition()
        self._readers = 0
        self._moving = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Go in unless something is moved."""
        with self._changed:
            self._changed.wait_for(lambda: not self._moving)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Be alone; readers that are in go out first."""
        with self.writer:
            with self._changed:
                self._moving += 1  # new readers wait from now on
                self._changed.wait_for(lambda: not self._readers)
            try:
                yield
            finally:
                with self._changed:
                    self._moving -= 1
                    self._changed.notify_all()


class HeldDatabase(MilvusLite):  # type: ignore[misc]
    """A database whose collections are looked at before they are opened, each of them once."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.changing = RLock()
        self._opening = RLock()
        self._sound: set[str] = set()
        self._gates: dict[str, Gate] = {}
        self._complete_renames()

    def gate(self, name: str) -> Gate:
        """Return a collection's gate, by its own name or an alias."""
        with suppress(MilvusLiteError):
            name = self.resolve_collection_name(name)
        return self._gates.setdefault(name, Gate())

    def faults(self, name: str) -> list[str]:
        """Return what is wrong with a collection's files.

        Later they change, so that they can be looked at only before it is opened.
        """
        with self._opening:
            folder = Path(self._collection_dir(name, DEFAULT_DATABASE_NAME))
            is_known = name in self._sound or (DEFAULT_DATABASE_NAME, name) in self._collections
            found = [] if is_known else list(find_faults(folder))
            if not found:
                self._sound.add(name)
            return found

    def get_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> Any:
        """Open a collection, or return the open one."""
        with self._opening:  # Lite would open it twice for two who ask at once
            if database_name == DEFAULT_DATABASE_NAME and self.has_collection(name):
                real = self.resolve_collection_name(name)
                if faults := self.faults(real):
                    raise DamagedError(f"the collection {real!r} is damaged: {'; '.join(faults)}")
                if (DEFAULT_DATABASE_NAME, real) not in self._collections:
                    drop_written_logs(Path(self._collection_dir(real, DEFAULT_DATABASE_NAME)))
            collection = super().get_collection(name, database_name)
            # Lite flushes by itself, too, in the middle of a write: readers wait for that as well.
            if "_trigger_flush" not in vars(collection):
                flush, gate = collection._trigger_flush, self.gate(collection.name)

                def alone() -> None:
                    with gate.moving():
                        flush()

                collection._trigger_flush = alone
            return collection

    def create_collection(self, *arguments: Any, **settings: Any) -> Any:
        """Make a collection; nobody looks at its files meanwhile."""
        with self._opening:
            return super().create_collection(*arguments, **settings)

    def leave_alias(self, name: str, to: str) -> None:
        """Rename a collection, and let its name go on meaning it, as an alias: in one step.

        The alias is written first. Milvus Lite asks for aliases before collections, so that from
        then on the name means what is renamed next, here or by whoever opens the database.
        """
        gate = self.gate(name)
        with self.changing, gate.moving(), self._opening:
            aliases = self._aliases(DEFAULT_DATABASE_NAME)
            if name in aliases:  # done already
                return
            self._validate_name(to)
            if self.has_collection(to) or not self.has_collection(name):
                raise MilvusLiteError(f"{name!r} cannot be renamed to {to!r}")
            if collection := self._collections.pop((DEFAULT_DATABASE_NAME, name), None):
                collection.close()
            aliases[name] = to
            self._save_aliases(DEFAULT_DATABASE_NAME)
            self._complete_renames()
            self._gates[to] = gate  # for those who wait at it
            self.forget(name)

    def back_up(self, folder: str) -> None:
        """Copy the database as it is at one moment; searches go on, writes wait."""
        with ExitStack() as turns:
            turns.enter_context(self.changing)
            for name in self.list_collections():
                turns.enter_context(self.gate(name).writer)
            for collection in self._collections.values():
                collection.flush()
            ignored = shutil.ignore_patterns("LOCK", "HOLDER", "locks")
            shutil.copytree(self._data_dir, folder, ignore=ignored)

    def _complete_renames(self) -> None:
        if any(find_database_faults(Path(self._data_dir))):  # whoever opens it is told of them
            return
        for name, to in self._aliases(DEFAULT_DATABASE_NAME).items():
            before, now = (
                Path(self._collection_dir(each, DEFAULT_DATABASE_NAME)) for each in (name, to)
            )
            if before.is_dir() and not now.exists():
                before.rename(now)
                _, schema = load_schema(str(now / SCHEMA))
                # By its module, where `teach_engine` put one that seals what it writes.
                lite_db.save_schema(schema, to, str(now / SCHEMA))

    def forget(self, name: str) -> None:
        """Look at a collection's files again: another one may have the name."""
        self._sound.discard(name)


class Servicer(MilvusServicer):  # type: ignore[misc]
    """Milvus Lite's answers, each when it is its turn."""

    def __init__(self, database: HeldDatabase) -> None:
        super().__init__(database)
        self._held = database

    def load(self, name: str, context: Any) -> None:
        """Load a collection that is not: after its holder died, it is as it lies on the disk.

        While another process changes its index, this waits.
        """
        with suppress(Exception):  # which the call itself will meet again
            collection = self._held.get_collection(name)
            lock = index_lock(Path(self._held._data_dir), collection.name)
            while collection.load_state != "loaded" and context.is_active():
                with (
                    suppress(TimeoutError),
                    turn(lock, 1.0, context.is_active),
                    self._held.gate(name).moving(),
                ):
                    collection.load()

    def is_loaded(self, name: str) -> bool:
        """Whether a collection can be searched."""
        with suppress(MilvusLiteError):
            return bool(self._held.get_collection(name).load_state == "loaded")
        return False


def _names(request: Any) -> list[str]:
    if hasattr(request, "collection_names"):
        return list(request.collection_names)
    if hasattr(request, "oldName"):
        return [request.oldName, request.newName]
    return [getattr(request, "collection_name", "")]


def _in_turn(method: str, kind: str) -> Callable[..., Any]:
    bare = getattr(MilvusServicer, method)

    def answer(self: Servicer, request: Any, context: Any) -> Any:
        # Sorted, so that two calls that take the same gates never wait for each other.
        names = sorted(filter(None, _names(request)))
        # Before it goes in as a reader: loading waits until there is none.
        if method in _SEARCHES:
            for name in names:
                self.load(name, context)
        if method == "LoadCollection" and all(map(self.is_loaded, names)):
            return bare(self, request, context)  # without waiting for a writer
        with ExitStack() as turns:
            if kind == "database":
                turns.enter_context(self._held.changing)
            for name in names:
                gate = self._held.gate(name)
                if kind == "read":
                    turns.enter_context(gate.reading())
                elif kind == "write":
                    turns.enter_context(gate.writer)
                else:
                    turns.enter_context(gate.moving())
            try:
                return bare(self, request, context)
            finally:
                if kind == "database":
                    for name in names:
                        self._held.forget(name)

    answer.__name__ = method
    return answer


for _kind, _methods in (
    ("read", _READS),
    ("write", _WRITES),
    ("change", _CHANGES),
    ("database", _DATABASE_CHANGES),
):
    for _method in _methods:
        setattr(Servicer, _method, _in_turn(_method, _kind))


class Server:
    """A database that this process holds, and its socket.

    Raises
    ------
    milvus_lite.exceptions.DataDirLockedError
        If another program holds it.
    OSError
        If its files, or the socket, cannot be made.
    """

    def __init__(self, path: Path) -> None:
        teach_engine()
        self.database = HeldDatabase(path)
        self._threads = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="milvus-lite")
        self._grpc = grpc.server(self._threads, options=_OPTIONS)
        try:
            self.folder = _private_folder()
        except BaseException:
            self.database.close()
            raise
        try:
            servicer = Servicer(self.database)
            milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, self._grpc)
            self._grpc.add_generic_rpc_handlers((_OwnCalls(self.database),))
            self.socket = self.folder / "lite"
            self._grpc.add_insecure_port(f"unix:{self.socket}")
            self.socket.chmod(0o600)
            self._grpc.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the calls of others end, close the database, and let go of it."""
        self._grpc.stop(GRACE).wait()
        self.database.close()
        self._threads.shutdown(wait=False)
        shutil.rmtree(self.folder, ignore_errors=True)


class _OwnCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """What Milvus has no call for, in JSON."""

    def __init__(self, database: HeldDatabase) -> None:
        self._database = database

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method not in OWN_CALLS:
            return None

        def answer(asked: bytes, context: Any) -> bytes:
            try:
                told = own_call(self._database, details.method, json.loads(asked))
                return json.dumps(told).encode()
            except (MilvusLiteError, OSError) as error:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
                raise

        return grpc.unary_unary_rpc_method_handler(answer)


OWN_CALLS = {
    FAULTS: HeldDatabase.faults,
    LEAVE_ALIAS: HeldDatabase.leave_alias,
    BACK_UP: HeldDatabase.back_up,
}


def own_call(database: HeldDatabase, method: str, arguments: dict[str, Any]) -> Any:
    """Make one of `OWN_CALLS`."""
    return OWN_CALLS[method](database, **arguments)  # type: ignore[operator]


def _private_folder() -> Path:
    """Make a folder that nobody else can enter, with a name that nobody can tell before."""
    places = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108
    for place in places:
        # 30: for the names of the folder and of the socket in it.
        if place and Path(place).is_dir() and len(os.fsencode(place)) < _LONGEST_PATH - 30:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER, dir=place))
    raise OSError(None, "no folder for a socket", ", ".join(filter(None, places)))
