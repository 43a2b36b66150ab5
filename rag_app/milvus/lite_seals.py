"""Checksums in the files of Milvus Lite, which writes none.

Lite reads back what it finds: three flipped bytes were other texts, other vectors or no rows at
all, without a word. `install` makes it write a checksum into each file, where its own readers
overlook it: a key in its JSON files, Parquet's own page checksums, a trailer behind an index. Files
that were written without (before, or by another program) are taken as they are; an index is built
again.
"""

import json
import logging
import os
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SEAL = "rag_app_crc32"
"""The key of a JSON file's checksum."""

_TRAILER = b"rag_app\0"
_BLOCK = 1 << 20
_LOG = logging.getLogger("rag_app")


def install() -> None:
    """Make this process's Milvus Lite write checksums. Does nothing the second time."""
    from milvus_lite import db
    from milvus_lite.storage import data_file, delta_file, manifest, segment

    if isinstance(data_file.pq, SimpleNamespace):
        return
    _seal_parquet(data_file, delta_file)
    _seal_manifest(manifest.Manifest)
    _seal_schema(db)
    _seal_indexes(segment.Segment)


def checksum(payload: dict[str, Any]) -> int:
    """Return the checksum of what a JSON file says, the checksum itself left out."""
    said = {key: value for key, value in payload.items() if key != SEAL}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def _seal_parquet(*modules: Any) -> None:
    import pyarrow.parquet as pq

    sealed = SimpleNamespace(
        write_table=lambda table, path: pq.write_table(table, path, write_page_checksum=True),
        read_table=lambda path: pq.read_table(path, page_checksum_verification=True),
    )
    for module in modules:
        module.pq = sealed


def _seal_manifest(manifest: Any) -> None:
    bare = manifest._to_payload

    def sealed(self: Any) -> dict[str, Any]:
        payload: dict[str, Any] = bare(self)
        # `Manifest.save` writes the next version into it.
        return {**payload, SEAL: checksum({**payload, "version": self.version + 1})}

    manifest._to_payload = sealed


def _seal_schema(db: Any) -> None:
    bare = db.save_schema

    def sealed(schema: Any, name: str, path: str) -> None:
        draft = f"{path}.draft"
        bare(schema, name, draft)
        payload = json.loads(Path(draft).read_text("utf-8"))
        with open(draft, "w", encoding="utf-8") as file:  # noqa: PTH123 - as Lite, with fsync
            json.dump({**payload, SEAL: checksum(payload)}, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)

    db.save_schema = sealed


def _seal_indexes(segment: Any) -> None:
    bare = segment.build_or_load_index

    def sealed(self: Any, spec: Any, index_dir: str) -> None:
        file = Path(self.index_file_path(index_dir, spec.index_type, spec.field_name))
        is_loaded = spec.field_name in self.indexes
        if not is_loaded and file.exists() and not is_sealed(file):
            _LOG.info("the index file %s is damaged or has no checksum: building it anew", file)
            file.unlink()
        is_new = not file.exists()
        bare(self, spec, index_dir)
        if is_new and file.exists():
            with file.open("ab") as end:
                end.write(_TRAILER + _crc_of(file).to_bytes(4, "little"))

    segment.build_or_load_index = sealed


def is_sealed(file: Path) -> bool:
    """Whether an index file ends with the checksum of all that comes before."""
    length = len(_TRAILER) + 4
    size = file.stat().st_size - length
    if size < 0:
        return False
    with file.open("rb") as read:
        read.seek(size)
        trailer = read.read(length)
    return trailer == _TRAILER + _crc_of(file, size).to_bytes(4, "little")


def _crc_of(file: Path, size: int | None = None) -> int:
    crc, left = 0, file.stat().st_size if size is None else size
    with file.open("rb") as read:
        while left > 0 and (block := read.read(min(_BLOCK, left))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc
