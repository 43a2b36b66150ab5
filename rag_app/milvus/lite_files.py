"""Milvus Lite's files: where they lie, what its index files hold, and letting go of them."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rag_app.milvus import lite_shared

T = TypeVar("T")


def release(uri: str) -> None:
    """Close a Milvus Lite database, so that another process can open it."""
    if "://" not in uri:
        lite_shared.release(Path(uri))
        if manager := sys.modules.get("milvus_lite.server_manager"):  # where it was opened alone
            manager.server_manager_instance.release_server(uri)


def collection_folder(uri: str, collection: str) -> Path:
    """Return the folder of a collection in a database."""
    return Path(uri) / "collections" / collection


def index_files(uri: str, collection: str, vector_field: str) -> list[Path]:
    """Return the files of a collection's index: one for each segment that has one."""
    folder = collection_folder(uri, collection) / "partitions"
    return sorted(folder.glob(f"*/indexes/*.{vector_field}.*.idx"))


def read_each(files: Iterable[Path], read: Callable[[Path], T]) -> list[T]:
    """Read files that another process may replace meanwhile; those that are gone are left out."""
    found = []
    for file in files:
        with suppress(FileNotFoundError):
            found.append(read(file))
    return found


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
        told["M"] = int(index.hnsw.nb_neighbors(1))  # FAISS has twice M on level 0
        told["efConstruction"] = int(index.hnsw.efConstruction)
    if hasattr(index, "nlist"):
        told["nlist"] = int(index.nlist)
    return told
