"""What is wrong with the files of a Milvus Lite collection, looked at before Milvus Lite does.

Lite would go back to an older manifest without a word, take a file that is missing for no rows, and
delete what its manifest does not name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.milvus.lite_seals import LOG_SEAL, SEAL, checksum, log_fault

MANIFEST = "manifest.json"
SCHEMA = "schema.json"
_BACKUP = "manifest.json.prev"
_NEXT = "manifest.json.tmp"
_NUMBERS = ("version", "current_seq", "schema_version", "manifest_format_version")
_FILE_LISTS = ("data_files", "delta_files")


@dataclass(frozen=True)
class Position:
    """How far a collection's files have come.

    Attributes
    ----------
    version
        Of the manifest; each change of it counts one up.
    writes
        Rows and deletions that are in the files.
    has_log
        Whether there are writes that are not in the files yet.
    """

    version: int
    writes: int
    has_log: bool


def find_faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a collection's files, each fault with the file's name.

    Every file is read once; of 20,000 rows that takes 0.1 s.
    """
    if not folder.is_dir() or not has_content(folder):
        return
    yield from _schema_faults(folder)
    manifest, faults = _read_manifest(folder)
    yield from faults
    for partition, lists in (manifest or {}).get("partitions", {}).items():
        for name in (name for key in _FILE_LISTS for name in lists[key]):
            fault = _parquet_fault(folder / "partitions" / partition / name)
            if fault:
                yield f"partitions/{partition}/{name} {fault}"
    for log in sorted((folder / "wal").glob("wal_*.arrow")):
        if fault := log_fault(log):
            yield (
                f"wal/{log.name} {fault} (it holds the last writes before a process was killed; to "
                f"go on without them, delete it and its {LOG_SEAL} and ingest again)"
            )


def has_content(folder: Path) -> bool:
    """Whether a folder holds anything of a collection."""
    return any(
        (folder / name).exists() for name in (SCHEMA, MANIFEST, _BACKUP, "partitions", "wal")
    )


def position(folder: Path) -> Position | None:
    """Tell how far a collection's files have come; None if there are none yet."""
    manifest, _ = _read_manifest(folder)
    if manifest is None:
        return None
    has_log = any((folder / "wal").glob("wal_*.arrow"))
    return Position(manifest["version"], manifest["current_seq"], has_log)


def read_properties(folder: Path) -> dict[str, str]:
    """Read a collection's properties from its files; none if they cannot be read."""
    payload, _ = _read_json(folder / SCHEMA)
    properties = payload.get("properties")
    return dict(properties) if isinstance(properties, dict) else {}


def find_database_faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with the files that all collections of a database share."""
    for name in ("aliases.json", "database_properties.json"):
        if (path / name).exists():
            _, fault = _read_json(path / name)
            if fault:
                yield f"{name} {fault}"


def _schema_faults(folder: Path) -> Iterator[str]:
    from milvus_lite.exceptions import MilvusLiteError
    from milvus_lite.schema.persistence import load_schema
    from milvus_lite.schema.validation import validate_schema

    _, fault = _read_json(folder / SCHEMA)
    if fault:
        yield f"{SCHEMA} {fault}"
        return
    try:
        validate_schema(load_schema(str(folder / SCHEMA))[1], default_properties={})
    except (MilvusLiteError, ValueError, TypeError, AttributeError) as error:
        yield f"{SCHEMA} is no schema: {error}"


def _read_manifest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the manifest if it can be relied upon, and what is wrong with it."""
    file, backup = folder / MANIFEST, folder / _BACKUP
    if not file.exists() and not backup.exists():
        written = next((folder / "partitions").glob("*/*/*"), None)  # else nothing was yet
        return None, [] if written is None else [f"{MANIFEST} is missing"]
    payload, fault = _read_json(file)
    if fault:
        return None, [f"{MANIFEST} {fault}"]
    fault = _manifest_fault(payload)
    if fault:
        return None, [f"{MANIFEST} is no manifest: {fault}"]
    before, unreadable = _read_json(backup) if backup.exists() else ({}, "")
    # An unreadable backup is no fault: Lite takes it only where the manifest is damaged.
    older = before.get("version", 0) if not unreadable else 0
    # Lite writes the next one, copies this one to the backup, and puts the next one in its place;
    # killed before the last step, both are the same, and the next one lies there.
    is_between = older == payload["version"] and (folder / _NEXT).exists()
    if isinstance(older, int) and older >= payload["version"] and not is_between:
        return payload, [
            f"{MANIFEST} is of version {payload['version']}, older than {_BACKUP} ({older})"
        ]
    return payload, []


def _manifest_fault(payload: dict[str, Any]) -> str:
    from milvus_lite.index.spec import IndexSpec

    for name in _NUMBERS:
        if type(payload.get(name)) is not int:  # to isinstance, true is an integer
            return f"{name} = {payload.get(name)!r}"
    partitions, specs = payload.get("partitions"), payload.get("index_specs")
    if not isinstance(partitions, dict) or "_default" not in partitions:
        return "no partitions"
    for name, lists in partitions.items():
        for key in _FILE_LISTS:
            names = lists.get(key) if isinstance(lists, dict) else None
            if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
                return f"no {key} in the partition {name!r}"
    if not isinstance(specs, dict):
        return "no index_specs"
    try:
        for spec in specs.values():
            IndexSpec.from_dict(spec)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        return f"index_specs: {error}"
    return ""


def _read_json(file: Path) -> tuple[dict[str, Any], str]:
    """Return what a JSON file says, and what is wrong with it."""
    try:
        payload = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}, "is missing"
    except OSError as error:
        return {}, f"cannot be read: {error.strerror}"
    except ValueError as error:  # JSON's and UTF-8's
        return {}, f"cannot be read: {error}"
    if not isinstance(payload, dict):
        return {}, "cannot be read: it holds no object"
    if SEAL in payload and payload[SEAL] != checksum(payload):
        return {}, "is not as it was written: its checksum differs"
    return payload, ""


def _parquet_fault(file: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A block at a time: all of them at once would take the memory of the collection.
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for number in range(opened.num_row_groups):
                opened.read_row_group(number)
    except FileNotFoundError:
        return "is missing"
    except (OSError, pa.ArrowException, ValueError, MemoryError, OverflowError) as error:
        return f"cannot be read: {' '.join(str(error).split())}"
    return ""
