"""Who in this process uses a Milvus: the last one to let go closes the database or connection."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rag_app.milvus import lite_files
from rag_app.milvus.server_connections import close_unused

_holders: Counter[str] = Counter()
_lock = Lock()


def hold(uri: str) -> None:
    """Keep a database, or the connection to a server, open until `let_go`."""
    with _lock:
        _holders[_place(uri)] += 1


def let_go(uri: str) -> None:
    """Close a database, or the connection, unless someone else in this process holds it."""
    with _lock:
        place = _place(uri)
        _holders[place] -= 1
        if not _holders[place]:
            del _holders[place]
            # Within the lock: nobody gets hold of it while it is being closed.
            lite_files.release(uri)
            close_unused(uri)


@contextmanager
def holding(uri: str) -> Iterator[None]:
    """Keep a database open within the block."""
    hold(uri)
    try:
        yield
    finally:
        let_go(uri)


def _place(uri: str) -> str:
    # Not where a link leads: Milvus Lite, too, takes two paths for two databases.
    return uri if "://" in uri else os.path.abspath(uri)  # noqa: PTH100
