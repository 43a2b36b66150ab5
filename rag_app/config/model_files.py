"""Models that lie in a folder: where, what they read, and what tells one from another."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE_PREFIX = "package:"

_DECIDING = {".json", ".safetensors", ".bin", ".pt", ".txt", ".model", ".py"}
"""Suffixes of the files that decide a model's vectors: weights, configuration, vocabulary, code."""

_SETTLED_AFTER = 2.0
"""Seconds after which a file that is written again has another time, on any file system."""


def model_folder(model: str) -> Path | None:
    """Return where a model lies on this machine; None for a hub name, or a package not here."""
    if model.startswith(PACKAGE_PREFIX):
        # Found and not imported: all that is wanted is the folder beside it.
        spec = find_spec(model.removeprefix(PACKAGE_PREFIX))
        return Path(spec.origin).with_name("model") if spec and spec.origin else None
    path = Path(os.path.expanduser(model))  # noqa: PTH111 - leaves a "~name" that nobody has
    return path if path.is_dir() else None


def max_length_in(folder: Path | None) -> int | None:
    """Read how many tokens a sentence-transformers or BERT-like model in a folder takes."""
    if folder is None:
        return None
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("config.json", "max_position_embeddings"),
    ):
        try:
            length = json.loads((folder / file).read_text(encoding="utf-8")).get(key)
        # The last one: JSON, but no table.
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(length, int):
            return length
    return None


def model_identity(model: str) -> str:
    """Return what tells a model from others: its name, with a digest of all it is if in a folder.

    Digests of files are kept in the user's cache folder, by size and times, so that only a file
    that changed is read again.
    """
    folder = None if model.startswith(PACKAGE_PREFIX) else model_folder(model)
    if folder is None:
        return model
    digest = hashlib.sha256()
    for name, file_digest in _file_digests(folder):
        digest.update(f"{name} {file_digest}\n".encode())
    return f"{folder.name}@sha256:{digest.hexdigest()[:32]}"


def earlier_identity(model: str) -> str:
    """Return the identity that collections were given before: of each file's first megabyte."""
    folder = None if model.startswith(PACKAGE_PREFIX) else model_folder(model)
    if folder is None:
        return model
    digest = hashlib.sha256()
    # Sorted, here and below: the digest must not depend on a file system's order.
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".json", ".safetensors", ".bin"}:
            digest.update(f"{file.relative_to(folder)} {file.stat().st_size}".encode())
            with file.open("rb") as start:
                digest.update(start.read(1_000_000))
    return f"{folder.name}@{digest.hexdigest()[:12]}"


def _file_digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each deciding file's name and digest."""
    cache = _cache_file()
    known = _read_cache(cache)
    fresh: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix not in _DECIDING or not file.is_file():
            continue
        about = file.stat()
        # The time of the last change of any kind is not the user's to set, unlike the other.
        stamp = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
        entry = known.get(str(file.resolve()))
        if isinstance(entry, dict) and entry.get("stamp") == stamp and "sha256" in entry:
            found = str(entry["sha256"])
        else:
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            # One that was written just now could be written again under the same stamp.
            if time.time() - max(about.st_mtime, about.st_ctime) > _SETTLED_AFTER:
                fresh[str(file.resolve())] = {"stamp": stamp, "sha256": found}
        yield file.relative_to(folder).as_posix(), found
    if fresh:
        _write_cache(cache, {**known, **fresh})


def _cache_file() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("rag_app", appauthor=False) / "model-digests.json"


def _read_cache(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        read = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
    return {}


def _write_cache(file: Path, entries: dict[str, Any]) -> None:
    """Keep digests of files that are still there, if the cache folder can be written to."""
    there = {path: entry for path, entry in entries.items() if Path(path).exists()}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        # Replaced as a whole: another process may be reading it.
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(number, "w", encoding="utf-8") as new:
            json.dump(there, new)
        Path(name).replace(file)
