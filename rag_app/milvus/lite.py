"""Opening a Milvus Lite database in this process, or saying why that cannot be."""

import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from rag_app.errors import VectorStoreError
from rag_app.milvus.lite_check import find_database_faults, find_faults, has_content
from rag_app.milvus.lite_files import collection_folder, compact_eagerly, list_without_opening
from rag_app.milvus.lite_seals import install

_OPENING = threading.Lock()
_CHECKED: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The collections whose files were looked at, by the open database."""


def open_database(path: Path, timeout: float) -> None:
    """Open a database in this process, or wait while another one holds it; nothing if it is open.

    Its lock is taken by opening it. Who looks whether it is free, and then opens it, comes second
    to another process that did the same.

    Raises
    ------
    VectorStoreError
        If the path cannot be a database, if it is damaged, or if another process still holds it
        after ``timeout`` seconds; it names that process.
    """
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.exceptions import DataDirLockedError
    from milvus_lite.server_manager import server_manager_instance

    compact_eagerly()
    list_without_opening()
    install()
    key = _key(path)
    until = time.monotonic() + timeout
    with _OPENING:
        if key in server_manager_instance._servers:
            return
        _prepare(path)
        while True:
            try:
                opened = start_server_in_thread(key)
                break
            except DataDirLockedError:
                if time.monotonic() >= until:
                    raise _in_use(path) from None
                time.sleep(0.2)
            except OSError as error:
                raise _unusable(path, error) from error
        if faults := list(find_database_faults(path)):
            server, database, _ = opened
            server.stop(grace=0)
            database.close()
            raise VectorStoreError(
                f"the Milvus Lite database {path} is damaged: {'; '.join(faults)}",
                f"restore {path} from a backup; without that file its collections lose their "
                "aliases, or its properties, and nothing else",
            )
        server_manager_instance._servers[key] = opened  # where pymilvus looks for it


def collection_faults(uri: str, name: str) -> list[str]:
    """Return what is wrong with a collection's files, before Milvus Lite opens them.

    Later they change under its hands, so each is looked at once while the database is open.
    """
    from milvus_lite.server_manager import server_manager_instance

    _, database, _ = server_manager_instance._servers[_key(Path(uri))]
    seen = _CHECKED.setdefault(database, set())
    faults = [] if name in seen else list(find_faults(collection_folder(uri, name)))
    if not faults:
        seen.add(name)
    return faults


def check_collection(uri: str, name: str) -> None:
    """Refuse a collection whose files are damaged.

    Raises
    ------
    VectorStoreError
        Naming the files, and what to do.
    """
    if faults := collection_faults(uri, name):
        folder = collection_folder(uri, name)
        raise VectorStoreError(
            f"the collection {name!r} in {uri} is damaged, and was left as it is: "
            f"{'; '.join(faults)}",
            f"restore {folder} from a backup; or make it anew: rag-app collections drop {name}, "
            "then rag-app ingest the documents",
        )


def clear_leftover(uri: str, name: str) -> None:
    """Delete the empty folder that a process leaves when it is killed as it makes a collection."""
    folder = collection_folder(uri, name)
    if folder.is_dir() and not has_content(folder):
        shutil.rmtree(folder)


def remove_collection(uri: str, name: str) -> None:
    """Delete the files of a collection that is too damaged for Milvus Lite to drop it."""
    shutil.rmtree(collection_folder(uri, name))


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as Milvus Lite makes it


def _prepare(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise VectorStoreError(
            f"vector_store.uri is {path}, a file; a Milvus Lite database is a folder",
            "set vector_store.uri to another path, or move the file away",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VectorStoreError(
            f"the folder of vector_store.uri = {path} cannot be made: {error.strerror}",
            "set vector_store.uri to a path in a folder that can be written to",
        ) from None


def _in_use(path: Path) -> VectorStoreError:
    return VectorStoreError(
        f"the Milvus Lite database {path} is in use by another process{_lock_holder(path)}",
        "wait for it: --wait 600; for many processes at once run a Milvus server and set "
        'vector_store.uri = "http://host:19530"',
    )


def _unusable(path: Path, error: OSError) -> VectorStoreError:
    where = f" ({error.filename})" if error.filename else ""
    return VectorStoreError(
        f"the Milvus Lite database {path} cannot be opened: {error.strerror or error}{where}",
        "Milvus Lite writes even to read: make the folder and its files writable, or copy it to "
        "where they are and set vector_store.uri",
    )


def _lock_holder(path: Path) -> str:
    """Say which process holds a Lite database: pid, command, since when (Linux tells)."""
    try:
        inode = (path / "LOCK").stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
        pid = next(fields[4] for fields in locks if fields[5].endswith(f":{inode}"))
        process = Path("/proc") / pid
        command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        since = datetime.fromtimestamp(process.stat().st_ctime).astimezone()
    except (OSError, IndexError, StopIteration, UnicodeDecodeError):
        return ""
    return f": pid {pid} ({command}), since {since:%Y-%m-%d %H:%M:%S}"
