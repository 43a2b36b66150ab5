"""One Milvus Lite database, and any number of processes of one user.

The first one opens it and serves it (`lite_server`); it says where in the file `HOLDER`, which it
keeps locked. The others attach. Whoever finds that the holder is gone opens the database itself:
which of them does, the lock on `HOLDER` decides.
"""

import atexit
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, RLock
from typing import Any

import grpc

from rag_app.errors import VectorStoreError
from rag_app.milvus import lite_locks
from rag_app.milvus.lite_check import find_database_faults

HOLDER = "HOLDER"
"""The file in a database that says who serves it: locked as long as that process lives."""

PATIENCE = 30.0
"""Seconds for another process to begin serving, or to end: it may have to write what it holds."""

_NEAR = 2.0
"""Seconds after which a holder that says it is on another machine is believed."""

_ADDRESS = "unix:"

_HOST = socket.gethostname()

_databases: dict[str, "SharedDatabase"] = {}
_registry = Lock()
_forked: list[int] = []


class SharedDatabase:
    """A database as this process has it: held, or another process's.

    Parameters
    ----------
    path
        Its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.addresses: set[str] = set()
        self.on_close: list[Callable[[], object]] = []
        self._server: Any = None
        self._lock_file = -1
        self._is_closed = False
        self._lock = RLock()

    @property
    def is_held(self) -> bool:
        """Whether this process holds it."""
        return self._server is not None

    def reach(self, timeout: float = 0.0, patience: float = PATIENCE) -> str:
        """Return the address at which the database answers; open it if nobody holds it.

        Parameters
        ----------
        timeout
            Seconds to wait for a program that holds the database and does not share it.
        patience
            Seconds to wait for a process that begins or ends to serve it.

        Raises
        ------
        VectorStoreError
            If it is closed, damaged, cannot be opened, or whoever holds it does not share it.
        """
        started = time.monotonic()
        with self._lock:
            while True:
                self._check_usable()
                if self._server is not None:
                    return self._tell(self._server.socket)
                waited = time.monotonic() - started
                lock_file = self._try_holder_lock()
                if lock_file is None:
                    if place := self._published():
                        return self._tell(place)
                    if waited >= patience or (waited > _NEAR and self._is_elsewhere()):
                        raise not_answering(self.path)
                    time.sleep(0.02)
                elif not self._hold(lock_file):
                    if waited >= timeout:
                        raise self._in_use()
                    time.sleep(0.2)

    def _tell(self, place: str) -> str:
        address = f"{_ADDRESS}{place}"
        self.addresses.add(address)
        return address

    def faults(self, name: str, timeout: float = PATIENCE) -> list[str]:
        """Return what is wrong with a collection's files: the holder looks before it opens it."""
        from rag_app.milvus.lite_server import FAULTS

        return list(self.ask(FAULTS, {"name": name}, timeout))

    def ask(self, call: str, arguments: dict[str, Any], timeout: float = PATIENCE) -> Any:
        """Have whoever holds the database make one of `rag_app.milvus.lite_server.OWN_CALLS`.

        Raises
        ------
        VectorStoreError
            If it does not answer, or cannot do it.
        """
        from milvus_lite.exceptions import MilvusLiteError

        from rag_app.milvus.lite_server import own_call

        until = time.monotonic() + timeout
        while True:
            address = self.reach()
            if self._server is not None:
                try:
                    return own_call(self._server.database, call, arguments)
                except (MilvusLiteError, OSError) as error:
                    raise _refused(self.path, str(error)) from error
            with grpc.insecure_channel(address) as channel:
                try:
                    asked = json.dumps(arguments).encode()
                    return json.loads(channel.unary_unary(call)(asked, timeout=timeout))
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                        raise _refused(self.path, str(error.details())) from error
                    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                        raise _refused(
                            self.path, f"{other_holder(self.path)} is of an earlier version"
                        ) from error
                    # The holder may have ended: `reach` finds the next one, or opens it here.
                    if time.monotonic() >= until:
                        raise not_answering(self.path) from error
                    time.sleep(0.05)

    def close(self) -> None:
        """Let go of the database; its clients cannot be used any more."""
        self._is_closed = True  # whoever waits in `reach`, and has the lock, gives up
        with self._lock:
            for close in self.on_close:
                close()
            if self._server is not None:
                self._server.close()
                self._server = None
                lite_locks.unlock(self._lock_file)

    def forget(self) -> None:
        """Leave the database to the process that this one was forked from."""
        if self._server is not None and self._server.database._lock_fd is not None:
            os.close(self._server.database._lock_fd)  # it would outlive the parent

    def _check_usable(self) -> None:
        if _forked:
            raise VectorStoreError(
                f"a forked process cannot use the Milvus Lite database {self.path} that its "
                f"parent (pid {_forked[0]}) uses",
                'start processes with multiprocessing\'s "spawn"',
            )
        if self._is_closed:
            raise VectorStoreError(
                f"the Milvus Lite database {self.path} is closed", "open it again"
            )

    def _try_holder_lock(self) -> int | None:
        try:
            self.path.mkdir(exist_ok=True)
            return lite_locks.try_lock(self.path / HOLDER)
        except OSError as error:
            raise unusable(self.path, error) from error

    def _hold(self, lock_file: int) -> bool:
        """Open the database and serve it; False if another program has it open."""
        from milvus_lite.exceptions import DataDirLockedError

        # Who has the lock knows that the holder named there is gone.
        _clear_after(_read(self.path / HOLDER))
        try:
            self._server = self._open()
        except DataDirLockedError:
            lite_locks.unlock(lock_file)
            return False
        except BaseException:
            lite_locks.unlock(lock_file)
            raise
        self._lock_file = lock_file
        told = {
            "socket": str(self._server.socket),
            "pid": os.getpid(),
            "host": _HOST,
            "file": os.fstat(lock_file).st_ino,  # a copy of the database has another
        }
        # Into the file that is locked: one put in its place would not be.
        os.ftruncate(lock_file, 0)
        os.pwrite(lock_file, json.dumps(told).encode(), 0)
        return True

    def _open(self) -> Any:
        from rag_app.milvus.lite_server import Server

        try:
            server = Server(self.path)
        except OSError as error:
            raise unusable(self.path, error) from error
        if faults := list(find_database_faults(self.path)):
            server.close()
            raise VectorStoreError(
                f"the Milvus Lite database {self.path} is damaged: {'; '.join(faults)}",
                f"restore {self.path} from a backup; without that file its collections lose their "
                "aliases, or its properties, and nothing else",
            )
        return server

    def _published(self) -> str:
        """Return the socket that the holder tells, if somebody listens there; else ""."""
        told = _read(self.path / HOLDER)
        if not told:
            return ""
        self._check_owner(Path(told["socket"]).parent)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(told["socket"])
            except OSError as error:
                # Somebody listens, and has more callers than it has let in.
                if error.errno not in {errno.EAGAIN, errno.EWOULDBLOCK}:
                    return ""
        return str(told["socket"])

    def _check_owner(self, folder: Path) -> None:
        """Refuse a socket that another user may have put there, to read what is sent to it."""
        owner, me = (self.path / HOLDER).stat().st_uid, os.geteuid()
        with suppress(FileNotFoundError):  # it is going
            there = folder.stat()
            if me in {owner, 0} and there.st_uid == owner and not there.st_mode & 0o077:
                return
            raise VectorStoreError(
                f"the Milvus Lite database {self.path} is held by another user (uid {owner})",
                'run a Milvus server for many users, and set vector_store.uri = "http://host:19530"',
            )

    def _is_elsewhere(self) -> bool:
        return bool(_read(self.path / HOLDER).get("host", _HOST) != _HOST)

    def _in_use(self) -> VectorStoreError:
        holder = lite_locks.who_locks(self.path / "LOCK")
        return VectorStoreError(
            f"the Milvus Lite database {self.path} is in use by another process"
            f"{holder and ': '}{holder}, which does not share it",
            "wait for it: --wait 600; or run a Milvus server and set "
            'vector_store.uri = "http://host:19530"',
        )


def share(path: Path) -> SharedDatabase:
    """Return the database as this process has it already, or will."""
    with _registry:
        return _databases.setdefault(_key(path), SharedDatabase(Path(_key(path))))


def release(path: Path) -> None:
    """Let go of a database, if this process has it."""
    with _registry:
        database = _databases.pop(_key(path), None)
    if database is not None:
        database.close()


def at(address: str) -> SharedDatabase | None:
    """Return the database that answers at an address."""
    with _registry:
        databases = list(_databases.values())
    return next((each for each in databases if address in each.addresses), None)


def other_holder(path: Path) -> str:
    """Say which other process serves a database to this one; empty: none does."""
    pid = _read(Path(_key(path)) / HOLDER).get("pid", os.getpid())
    return "" if pid == os.getpid() else lite_locks.describe_process(pid)


def not_answering(path: Path) -> VectorStoreError:
    """Say that whoever holds a database does not answer."""
    told = _read(Path(_key(path)) / HOLDER)
    if told.get("pid") == os.getpid():
        return VectorStoreError(
            f"the Milvus Lite database {path} did not answer in time",
            "raise vector_store.timeout, or ask for less at once",
        )
    if told.get("host", _HOST) != _HOST:
        return VectorStoreError(
            f"the Milvus Lite database {path} is held by pid {told['pid']} on {told['host']}, "
            "another machine or container, which cannot be reached from here",
            'end it there; or run a Milvus server and set vector_store.uri = "http://host:19530"',
        )
    holder = lite_locks.describe_process(told["pid"]) if told else "another process"
    return VectorStoreError(
        f"the Milvus Lite database {path} is held by {holder}, which does not answer",
        "let that process go on (kill -CONT), or end it; if it is only slow, raise "
        "vector_store.timeout",
    )


def _refused(path: Path, reason: str) -> VectorStoreError:
    return VectorStoreError(
        f"the Milvus Lite database {path} could not do what was asked: {reason}",
        "end the process that holds it, and try again",
    )


def unusable(path: Path, error: OSError) -> VectorStoreError:
    """Say why a database cannot be opened."""
    where = f" ({error.filename})" if error.filename else ""
    return VectorStoreError(
        f"the Milvus Lite database {path} cannot be opened: {error.strerror or error}{where}",
        "Milvus Lite writes even to read: make the folder and its files writable, or copy it to "
        "where they are and set vector_store.uri",
    )


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as Milvus Lite makes it


def _read(holder: Path) -> dict[str, Any]:
    """Read who holds a database; nothing if that is being written, or was copied along."""
    try:
        told = json.loads(holder.read_bytes())
        return dict(told) if told["file"] == holder.stat().st_ino else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _clear_after(told: dict[str, Any]) -> None:
    """Delete the socket of a holder that was killed, and its folder."""
    place = Path(told.get("socket", ""))
    # What is said there may be of a copy, or of anybody: nothing else may be deleted for it.
    if place.parent.name.startswith(lite_locks.SOCKET_FOLDER) and told.get("host") == _HOST:
        with suppress(OSError):
            if place.is_socket():
                place.unlink()
            place.parent.rmdir()


def _release_all() -> None:
    with _registry:
        databases = list(_databases.values())
        _databases.clear()
    for database in databases:
        database.close()


def _after_fork() -> None:
    global _registry
    _registry = Lock()  # a thread of the parent may have held it
    if _databases:
        _forked.append(os.getppid())  # gRPC does not survive a fork
    for database in _databases.values():
        database.forget()
    _databases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
# Before Python ends the threads that answer: a call that comes later would be left unanswered.
getattr(threading, "_register_atexit", atexit.register)(_release_all)
