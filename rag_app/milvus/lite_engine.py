"""What Milvus Lite's engine is taught in the process that holds a database."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rag_app.milvus import lite_seals

SMALL_SEGMENT = 50_000_000
"""Bytes: some 20,000 rows of 384 dimensions, which are joined and indexed in a few seconds."""


def teach_engine() -> None:
    """Teach this process's Milvus Lite all that is here, and to write checksums."""
    _compact_eagerly()
    _list_without_opening()
    _cluster_quietly()
    lite_seals.install()


def _compact_eagerly() -> None:
    """Let Milvus Lite join small segments at every flush; it would keep up to three of each size.

    Lite weighs a word by how many rows of its own segment have it. A file that was added alone had
    a segment of its own, in which its words were common: BM25 found .61 of its answers among the
    first two instead of .92. Up to `SMALL_SEGMENT` all rows are in one segment.
    """
    from milvus_lite.engine import compaction

    compaction.COMPACTION_MIN_FILES_PER_BUCKET = 2
    compaction.COMPACTION_BUCKET_BOUNDARIES = [SMALL_SEGMENT]


def _list_without_opening() -> None:
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


def _cluster_quietly() -> None:
    """Let Milvus Lite make clusters of a few rows each, which FAISS warns of on the terminal.

    It would have 39 rows for each, which of ``4·√rows`` clusters only collections of 24,000 rows
    have; recall is measured, whatever the clusters are like.
    """
    import faiss
    from milvus_lite.index import faiss_ivf_flat, faiss_ivf_sq8

    if isinstance(faiss_ivf_flat.faiss, SimpleNamespace):
        return
    kinds = {
        name: _quiet(getattr(faiss, name)) for name in ("IndexIVFFlat", "IndexIVFScalarQuantizer")
    }
    for module in (faiss_ivf_flat, faiss_ivf_sq8):
        # In these modules alone: for other users of FAISS its warnings stay.
        module.faiss = SimpleNamespace(**{**vars(faiss), **kinds})


def _quiet(kind: Any) -> Any:
    def make(self: Any, *arguments: Any) -> None:
        kind.__init__(self, *arguments)
        self.cp.min_points_per_centroid = 1

    return type(kind.__name__, (kind,), {"__init__": make})


def drop_written_logs(folder: Path) -> None:
    """Delete the write-ahead files of a collection, not open yet, whose rows are in its files.

    Milvus Lite deletes them when its manifest says so. Killed in between, it would read them again
    when it opens the collection, and give out each of their rows twice until the next flush.
    """
    from milvus_lite.storage import wal
    from milvus_lite.storage.manifest import Manifest

    if (folder / "wal").is_dir() and (first := Manifest.load(str(folder)).active_wal_number):
        # The file of that number holds what is in no other file yet.
        wal._cleanup_old_wals(str(folder / "wal"), first - 1)
