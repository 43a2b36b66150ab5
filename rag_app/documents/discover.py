"""Folders, files and globs → LlamaIndex `Document`s, one per file; says what was skipped, and why.

`discover` lists the files without opening them, `read` turns one of them into a `Document`.
"""

import errno
import glob
import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

from llama_index.core import SimpleDirectoryReader
from llama_index.core.schema import Document

from rag_app.config.sections import DocumentsSection
from rag_app.documents.file_types import READERS, UnreadableFileError, file_type
from rag_app.errors import InputError
from rag_app.schema import SkippedFile

# LlamaIndex warns at each file that its own collection of readers is not installed: ours serve.
logging.getLogger("llama_index.core.readers.file.base").addFilter(
    lambda record: "llama-index-readers-file" not in record.getMessage()
)

READERS_VERSION = 1
"""Part of each content hash: raise it when a reader's output changes, to read files again."""

DOCUMENT_METADATA = ("title", "path", "file_name", "type", "size", "modified")
"""What every document carries: title and relative path (str), last part of the path (str), type
(str, see `file_types`), size (int, bytes), modification time (str, ISO 8601 UTC)."""


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file to read: `path` is relative to `root`, with forward slashes."""

    path: str
    root: Path = field(compare=False)

    @property
    def absolute(self) -> Path:
        """Where the file lies."""
        return self.root / self.path

    @property
    def document_id(self) -> str:
        """Hex digest of the relative path, so that a moved folder keeps its documents."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:32]


@dataclass
class Discovery:
    """What `discover` found: files sorted by path, what it left out, and where it looked."""

    files: list[SourceFile] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    tops: list[Path] = field(default_factory=list)


def discover(
    paths: Iterable[str | Path], section: DocumentsSection, known_roots: Sequence[Path] = ()
) -> Discovery:
    """List the files under folders, files and globs.

    Parameters
    ----------
    paths
        What the user named.
    section
        The configuration's ``[documents]``.
    known_roots
        Folders ingested before: a path inside one of them keeps being relative to it, so that
        ingesting a part of a folder again names its documents as before.

    Raises
    ------
    InputError
        If a path does not exist, a glob matches nothing, or two different files would have the
        same relative path.
    """
    found = Discovery(tops=[place for path in paths for place in _expand(path)])
    folders = {*known_roots, *(top if top.is_dir() else top.parent for top in found.tops)}
    for top in found.tops:
        around = [folder for folder in folders if top == folder or folder in top.parents]
        root = min(around, key=lambda folder: len(folder.parts))
        for file in _walk(top, root, section, found.skipped, ()):
            found.files.append(SourceFile(file.relative_to(root).as_posix(), root))
    found.files = sorted({file.absolute: file for file in found.files}.values())
    found.skipped = sorted(set(found.skipped), key=lambda skip: skip.path)
    _refuse_same_names(found.files)
    return found


def read(file: SourceFile, section: DocumentsSection) -> Document:
    """Read one file.

    Returns
    -------
    Document
        Its id is `SourceFile.document_id`, its metadata is `DOCUMENT_METADATA` with ``root`` and
        ``content_hash``; only the text reaches the embedder and the LLM.

    Raises
    ------
    UnreadableFileError
        If there is nothing in the file that could be read, with the reason.
    """
    before = _version(file.absolute)
    data = _read_bytes(file.absolute, section)
    kind = file_type(file.absolute, data)
    try:
        parts = SimpleDirectoryReader.load_file(
            input_file=file.absolute,
            file_metadata=lambda _: {},
            file_extractor={file.absolute.suffix.lower(): READERS[kind]()},
            raise_on_error=True,
        )
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, UnreadableFileError):
            raise cause from None
        raise UnreadableFileError(f"truncated or damaged: {_one_line(cause)}") from error
    (part,) = parts
    if not part.text.strip():
        raise UnreadableFileError("no text in it")
    after = _version(file.absolute)
    if after != before:
        raise UnreadableFileError("it changed while it was read; the next ingest reads it again")
    metadata: dict[str, Any] = {
        "title": part.metadata.get("title") or file.absolute.stem,
        "path": file.path,
        "file_name": file.absolute.name,
        "type": kind,
        "size": len(data),
        "modified": datetime.fromtimestamp(after[0] / 1e9, UTC).isoformat(timespec="seconds"),
        "root": str(file.root),
        "content_hash": _hash(data),
    }
    hidden = list(metadata)
    return Document(
        id_=file.document_id,
        text=part.text,
        metadata=metadata,
        excluded_embed_metadata_keys=hidden,
        excluded_llm_metadata_keys=hidden,
    )


def content_hash(file: SourceFile, section: DocumentsSection) -> str:
    """Return a hex digest of a file's bytes and the readers' version: equal means nothing to do.

    Raises
    ------
    UnreadableFileError
        As `read` does, for what can be told without parsing.
    """
    data = _read_bytes(file.absolute, section)
    file_type(file.absolute, data)
    return _hash(data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(f"{READERS_VERSION}\0".encode() + data).hexdigest()[:32]


def _expand(path: str | Path) -> list[Path]:
    """Return absolute paths: the path itself, or what it matches as a glob."""
    given = Path(path).expanduser()
    if given.exists() or given.is_symlink():
        return [_absolute(given)]
    if not glob.has_magic(str(given)):
        raise InputError(
            f"there is no file or folder {str(path)!r}", "check the path; globs go in quotes"
        )
    matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - may be absolute
    if not matches:
        raise InputError(f"the glob {str(path)!r} matches nothing", "check it, quotes included")
    return [_absolute(Path(match)) for match in matches]


def _absolute(path: Path) -> Path:
    """Make absolute and drop ".." without following links: a link keeps its own name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links


def _walk(
    top: Path,
    root: Path,
    section: DocumentsSection,
    skipped: list[SkippedFile],
    above: tuple[tuple[int, int], ...],
) -> Iterator[Path]:
    """Yield readable-looking files at and below `top`; `above` are the folders we came through."""
    relative = top.relative_to(root).as_posix()
    shown = relative if relative != "." else top.name

    def skip(reason: str) -> None:
        skipped.append(SkippedFile(_printable(shown), reason))

    try:
        status = top.stat()
    except FileNotFoundError:
        return skip("dangling link: what it points to is not there")
    except OSError as error:
        circular = error.errno == errno.ELOOP
        return skip("circular link" if circular else f"unreadable: {error.strerror}")
    if shown != _printable(shown):
        return skip("its name is not UTF-8")
    if stat.S_ISREG(status.st_mode):
        if status.st_size > section.max_file_size_mb * 1e6:
            return skip(_too_large(status.st_size, section))
        yield top
        return None
    if not stat.S_ISDIR(status.st_mode):
        return skip("not a regular file")
    if (top / "LOCK").exists() and (top / "collections").is_dir():
        return skip("a Milvus Lite database")
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return skip("circular link")
    try:
        names = sorted(os.listdir(top))  # noqa: PTH208 - names, not paths, are filtered
    except OSError as error:
        return skip(f"unreadable: {error.strerror}")
    for name in names:
        inside = (top / name).relative_to(root).as_posix()
        if name.startswith(".") and not section.hidden:
            continue
        if any(fnmatch(inside, glob_) or fnmatch(name, glob_) for glob_ in section.exclude):
            continue
        yield from _walk(top / name, root, section, skipped, (*above, identity))
    return None


def _refuse_same_names(files: Sequence[SourceFile]) -> None:
    for first, second in pairwise(files):
        if first.path == second.path:
            both = [str(first.absolute), str(second.absolute)]
            raise InputError(
                f"{both[0]!r} and {both[1]!r} have the same path {first.path!r} in their folders, "
                "so that one would replace the other",
                f"ingest the folder that holds both: rag-app ingest {os.path.commonpath(both)}",
            )


def _version(path: Path) -> tuple[int, int]:
    """Return modification time (nanoseconds) and size: what tells that a file was written to."""
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableFileError(f"unreadable: {error.strerror}") from None
    return status.st_mtime_ns, status.st_size


def _read_bytes(path: Path, section: DocumentsSection) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"unreadable: {error.strerror}") from None
    if len(data) > section.max_file_size_mb * 1e6:
        raise UnreadableFileError(_too_large(len(data), section))
    if not data.strip():
        raise UnreadableFileError("empty")
    return data


def _too_large(size: int, section: DocumentsSection) -> str:
    limit = f"documents.max_file_size_mb = {section.max_file_size_mb:g}"
    return f"larger than {limit}: {size / 1e6:.1f} MB"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
