"""Milvus Lite's files: where they lie, when they are joined, what its index files hold."""

from pathlib import Path
from typing import Any

SMALL_SEGMENT = 50_000_000
"""Bytes: some 20,000 rows of 384 dimensions, which are joined and indexed in a few seconds."""


def compact_eagerly() -> None:
    """Let Milvus Lite join small segments at every flush; it would keep up to three of each size.

    Lite weighs a word by how many rows of its own segment have it. A file that was added alone had
    a segment of its own, in which its words were common: BM25 found .61 of its answers among the
    first two instead of .92. Up to `SMALL_SEGMENT` all rows are in one segment.
    """
    from milvus_lite.engine import compaction

    compaction.COMPACTION_MIN_FILES_PER_BUCKET = 2
    compaction.COMPACTION_BUCKET_BOUNDARIES = [SMALL_SEGMENT]


def list_without_opening() -> None:
    """Let Milvus Lite list its collections without opening each of them, as it would.

    LlamaIndex's store lists them to look for its own: a damaged one would fail the others, and be
    cleaned of the files that its manifest does not name.
    """
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from pymilvus.grpc_gen import milvus_pb2

    def show(self: Any, request: Any, context: Any) -> Any:
        database, opened = self._database_name(request, context), self._db._collections
        names = self._db.list_collections(database_name=database)
        asked = [name for name in names if name in (request.collection_names or names)]
        loaded = [
            (database, name) in opened and opened[database, name].load_state == "loaded"
            for name in asked
        ]
        return milvus_pb2.ShowCollectionsResponse(
            collection_names=asked,
            inMemory_percentages=[100 * is_loaded for is_loaded in loaded],
            query_service_available=loaded,
            shards_num=[1] * len(asked),
        )

    MilvusServicer.ShowCollections = show


def release(uri: str) -> None:
    """Close a Milvus Lite database, so that another process can open it."""
    if "://" not in uri:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)


def collection_folder(uri: str, collection: str) -> Path:
    """Return the folder of a collection in a database."""
    return Path(uri) / "collections" / collection


def index_files(uri: str, collection: str, vector_field: str) -> list[Path]:
    """Return the files of a collection's index: one for each segment that has one."""
    folder = collection_folder(uri, collection) / "partitions"
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
