"""Locks that the processes of one machine honour: `flock` on files, which no death leaves behind.

Windows has none; there a Milvus Lite database is for one process at a time, by its own lock.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SOCKET_FOLDER = "rag-app-"
"""What the name of the folder of a database's socket starts with."""

CAN_LOCK = fcntl is not None

_held: set[int] = set()
_turns: dict[Path, "_Turn"] = {}


def write_lock(database: Path, collection: str) -> Path:
    """Return the file that is locked while a collection is written to."""
    return database.absolute() / "locks" / f"{collection}.write"


def index_lock(database: Path, collection: str) -> Path:
    """Return the file that is locked while a collection's index is changed."""
    return database.absolute() / "locks" / f"{collection}.index"


def try_lock(file: Path) -> int | None:
    """Lock a file, which is made if need be; return what `unlock` takes, or None: it is locked.

    Raises
    ------
    OSError
        If the file cannot be made or opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if CAN_LOCK:
            # Not `lockf`: its lock is lost when this process opens the file to read, and closes it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    _held.add(descriptor)
    return descriptor


def unlock(descriptor: int) -> None:
    """Give a lock back."""
    _held.discard(descriptor)
    if CAN_LOCK:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # for children that have it, too
    os.close(descriptor)


class _Turn:
    """One file's lock as the threads of this process share it."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.depth = 0
        self.descriptor = -1


@contextmanager
def turn(file: Path, timeout: float, goes_on: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Hold a file's lock; a thread that has it already goes on.

    Parameters
    ----------
    goes_on
        Asked again and again while there is somebody to wait for.

    Raises
    ------
    TimeoutError
        If another thread or process still has it after ``timeout`` seconds, or when there is no
        more waiting.
    """
    until = time.monotonic() + timeout
    mine = _turns.setdefault(file, _Turn())

    def wait() -> None:
        if time.monotonic() >= until or not goes_on():
            raise TimeoutError
        time.sleep(0.05)

    # In short looks, as for the file: `goes_on` is to be asked meanwhile.
    while not mine.lock.acquire(blocking=False):
        wait()
    try:
        if not mine.depth:
            file.parent.mkdir(parents=True, exist_ok=True)
            while (descriptor := try_lock(file)) is None:
                wait()
            mine.descriptor = descriptor
        mine.depth += 1
        try:
            yield
        finally:
            mine.depth -= 1
            if not mine.depth:
                unlock(mine.descriptor)
    finally:
        mine.lock.release()


def who_locks(file: Path) -> str:
    """Say which process holds a file's lock: pid, command, since when (Linux tells); else ""."""
    try:
        inode = file.stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
        pid = next(fields[4] for fields in locks if fields[5].endswith(f":{inode}"))
        return describe_process(int(pid))
    except (OSError, IndexError, StopIteration, ValueError):
        return ""


def describe_process(pid: int) -> str:
    """Say which process a pid is, as far as the system tells."""
    process = Path("/proc", str(pid))
    try:
        command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        since = datetime.fromtimestamp(process.stat().st_ctime).astimezone()
    except (OSError, UnicodeDecodeError):
        return f"pid {pid}"
    return f"pid {pid} ({command}), since {since:%Y-%m-%d %H:%M:%S}"


def _forget() -> None:
    """Close what a forked child has of its parent's locks: they would outlive the parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _turns.clear()


_at_fork: Any = getattr(os, "register_at_fork", None)
if _at_fork is not None:
    _at_fork(after_in_child=_forget)
