"""Milvus Lite's files: the folder it lives in, the lock that one process holds, the index files."""

import errno
import fcntl
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rag_app.errors import VectorStoreError

SMALL_SEGMENT = 50_000_000
"""Bytes: some 20,000 rows of 384 dimensions, which are joined and indexed in a few seconds."""


def prepare(path: Path) -> None:
    """Make the folder that a Lite database goes into, or say why there can be none."""
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


def compact_eagerly() -> None:
    """Let Milvus Lite join small segments at every flush; it would keep up to three of each size.

    Lite weighs a word by how many rows of its own segment have it. A file that was added alone had
    a segment of its own, in which its words were common: BM25 found .61 of its answers among the
    first two instead of .92. Up to `SMALL_SEGMENT` all rows are in one segment.
    """
    from milvus_lite.engine import compaction

    compaction.COMPACTION_MIN_FILES_PER_BUCKET = 2
    compaction.COMPACTION_BUCKET_BOUNDARIES = [SMALL_SEGMENT]


def wait_for_lock(path: Path, timeout: float) -> None:
    """Wait until no other process holds a Lite database, or say which one does."""
    until = time.monotonic() + timeout
    while is_locked(path):
        if time.monotonic() >= until:
            raise VectorStoreError(
                f"the Milvus Lite database {path} is in use by another process{_lock_holder(path)}",
                "wait for it: --wait 600; for many processes at once run a Milvus server and set "
                'vector_store.uri = "http://host:19530"',
            )
        time.sleep(0.2)


def is_locked(path: Path) -> bool:
    """Whether another process holds a Lite database."""
    from milvus_lite.server_manager import server_manager_instance

    if os.path.abspath(path) in server_manager_instance._servers:  # noqa: PTH100 - its own key
        return False  # by this process, which shares it
    try:
        with (path / "LOCK").open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EACCES}
    return False


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


def release(uri: str) -> None:
    """Close a Milvus Lite database, so that another process can open it."""
    if "://" not in uri:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)


def index_files(uri: str, collection: str, vector_field: str) -> list[Path]:
    """Return the files of a collection's index: one for each segment that has one."""
    folder = Path(uri) / "collections" / collection / "partitions"
    return sorted(folder.glob(f"*/indexes/*.{vector_field}.*.idx"))


def read_index_file(file: Path) -> dict[str, Any]:
    """Read back what Milvus Lite really built: the kind of index, its rows and its parameters.

    Lite tells what it was asked for, and builds with its own defaults where it did not understand.
    """
    import faiss  # 0.1 s; comes with Milvus Lite

    with file.open("rb") as start:
        is_numpy = start.read(6) == b"\x93NUMPY"
    if is_numpy:  # of FLAT Lite keeps the bare vectors
        import numpy as np

        return {"kind": "FLAT", "rows": len(np.load(file, mmap_mode="r"))}
    index = faiss.read_index(str(file))
    told: dict[str, Any] = {"kind": type(index).__name__, "rows": int(index.ntotal)}
    if hasattr(index, "hnsw"):
        told["M"] = int(index.hnsw.nb_neighbors(1))
        told["efConstruction"] = int(index.hnsw.efConstruction)
    if hasattr(index, "nlist"):
        told["nlist"] = int(index.nlist)
    return told
