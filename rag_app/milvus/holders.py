"""Who in this process uses a Milvus Lite database: the last one to let go closes it."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rag_app.milvus import lite_files

_holders: Counter[str] = Counter()
_lock = Lock()


def hold(uri: str) -> None:
    """Keep a database open until `let_go`."""
    with _lock:
        _holders[_place(uri)] += 1


def let_go(uri: str) -> None:
    """Close a database, unless someone else in this process holds it."""
    with _lock:
        place = _place(uri)
        _holders[place] -= 1
        if not _holders[place]:
            del _holders[place]
            # Within the lock: nobody gets hold of it while it is being closed.
            lite_files.release(uri)


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
