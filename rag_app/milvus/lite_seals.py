"""Checksums in the files of Milvus Lite, which writes none.

Lite reads back what it finds: three flipped bytes were other texts, other vectors or no rows at
all, without a word. `install` makes it write a checksum into each file, where its own readers
overlook it: a key in its JSON files, Parquet's own page checksums, a trailer behind an index, a
file beside each write-ahead file. Files that were written without (before, or by another program)
are taken as they are; an index is built again.
"""

import json
import logging
import os
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SEAL = "rag_app_crc32"
"""The key of a JSON file's checksum."""

LOG_SEAL = ".crc"
"""What the name of a write-ahead file's checksums ends with."""

_STRETCH = struct.Struct("<QI")
"""One write: where in the file it ends, and the checksum from where the one before ended."""

_TRAILER = b"rag_app\0"
_BLOCK = 1 << 20
_LOG = logging.getLogger("rag_app")


def install() -> None:
    """Make this process's Milvus Lite write checksums. Does nothing the second time."""
    from milvus_lite import db
    from milvus_lite.storage import data_file, delta_file, manifest, segment, wal

    if isinstance(data_file.pq, SimpleNamespace):
        return
    _seal_parquet(data_file, delta_file)
    _seal_manifest(manifest.Manifest)
    _seal_schema(db)
    _seal_indexes(segment.Segment)
    _seal_logs(wal)


def checksum(payload: dict[str, Any]) -> int:
    """Return the checksum of what a JSON file says, the checksum itself left out."""
    said = {key: value for key, value in payload.items() if key != SEAL}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def _seal_parquet(*modules: Any) -> None:
    import pyarrow.parquet as pq

    # What these modules use of pyarrow, in them alone: other users of it write as before.
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
        # Beside it, and put in its place when it is sealed: a process may be killed at any time.
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


def _seal_logs(module: Any) -> None:
    """Write a checksum of each write, after the write: one that was not finished has none."""
    wal, clean = module.WAL, module._cleanup_old_wals
    insert, delete = wal.write_insert, wal.write_delete

    def sealed_insert(self: Any, batch: Any) -> None:
        insert(self, batch)
        _seal_to(Path(self.data_path), self._data_size_bytes)

    def sealed_delete(self: Any, batch: Any) -> None:
        delete(self, batch)
        _seal_to(Path(self.delta_path), self._delta_size_bytes)

    def clean_all(folder: str, number: int) -> None:
        clean(folder, number)
        for seal in Path(folder).glob(f"*{LOG_SEAL}"):
            if not seal.with_suffix("").exists():
                seal.unlink(missing_ok=True)

    wal.write_insert, wal.write_delete = sealed_insert, sealed_delete
    module._cleanup_old_wals = clean_all


def _seal_to(log: Path, end: int) -> None:
    seal = log.with_name(log.name + LOG_SEAL)
    before = 0
    if seal.exists():
        told = seal.read_bytes()[-_STRETCH.size :]
        before = _STRETCH.unpack(told)[0] if len(told) == _STRETCH.size else end
        if before >= end:  # of a former file of this name
            seal.unlink()
            before = 0
    with seal.open("ab") as sealed:
        sealed.write(_STRETCH.pack(end, _crc_of(log, end - before, start=before)))


def log_fault(log: Path) -> str:
    """Say what is wrong with a write-ahead file; empty: nothing that its checksums tell.

    What comes after the last of them was being written when a process was killed; whoever asked for
    it never heard that it was done.
    """
    seal = log.with_name(log.name + LOG_SEAL)
    if not seal.exists():
        return ""
    told, start = seal.read_bytes(), 0
    size = log.stat().st_size
    # The last entry may be cut short, by a kill as well.
    for end, crc in _STRETCH.iter_unpack(told[: len(told) // _STRETCH.size * _STRETCH.size]):
        if end > size:
            return f"ends after {size:,} bytes, of {end:,} that were written"
        if _crc_of(log, end - start, start=start) != crc:
            return f"is not as it was written: a checksum differs behind byte {start:,}"
        start = end
    return ""


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


def _crc_of(file: Path, size: int | None = None, *, start: int = 0) -> int:
    crc, left = 0, file.stat().st_size if size is None else size
    with file.open("rb") as read:
        read.seek(start)
        while left > 0 and (block := read.read(min(_BLOCK, left))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc
