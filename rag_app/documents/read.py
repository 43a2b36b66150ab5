"""One file → a LlamaIndex `Document`, or the reason why not.

Whatever is in a file, or becomes of it while it is read, is that file's own matter: it ends as an
`UnreadableFileError`, and the text and the title that leave here are valid and bounded.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import READERS, Limits, UnreadableFileError, file_type
from rag_app.documents.file_types.limits import too_large
from rag_app.documents.library_warnings import heard_by
from rag_app.documents.web.kept import url_of
from rag_app.errors import ExtensionError

if TYPE_CHECKING:
    from llama_index.core.schema import Document

    from rag_app.config.sections import DocumentsSection

READERS_VERSION = 9
"""Part of each content hash: raise it when the output of readers or node parser changes, to read
files again. Of a reader that another package adds, it is that package's version."""

DOCUMENT_METADATA = ("title", "path", "file_name", "type", "size", "modified")
"""What every document carries: title and relative path (str), last part of the path (str), type
(str, see `file_types`), size (int, bytes), modification time (str, ISO 8601 UTC)."""

_FOR_OCR = 2_000_000_000
"""Bytes of address space of a model that recognizes letters."""

MAX_TITLE = 300
"""Characters of a title: each node carries it, twice, and Milvus takes 65,536 bytes a row."""


def read(
    file: SourceFile, section: "DocumentsSection", warned: list[str] | None = None
) -> "Document":
    """Read one file in this process.

    Parameters
    ----------
    file
        From `discover`.
    section
        The configuration's ``[documents]``.
    warned
        Takes what libraries and readers warn of on the way, which is never printed.

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
    return document_of(file, section, *parse(file.absolute, limits_of(section), warned))


def document_of(
    file: SourceFile, section: "DocumentsSection", text: str, metadata: Mapping[str, Any]
) -> "Document":
    """Make a document of what `parse` made of a file."""
    # 1 s, which a reading process does without
    from rag_app.documents.laid_out import load_document

    own = dict(metadata)
    if url := url_of(file.absolute, section.web_folder):
        own["url"] = url
    spans = own.pop("spans", [])
    named = {
        "title": own["title"],
        "path": file.path,
        "file_name": file.absolute.name,
        **own,
        "root": str(file.root),
    }
    # LlamaIndex puts all that is not hidden before the text, for the embedder and the LLM alike.
    hidden = list(named)
    document = load_document(file.absolute, text, spans, named)
    document.id_ = file.document_id
    document.excluded_embed_metadata_keys = hidden
    document.excluded_llm_metadata_keys = hidden
    return document


def parse(
    path: Path, limits: Limits, warned: list[str] | None = None
) -> tuple[str, dict[str, Any]]:
    """Return a file's text, and the metadata that are its content's and its own.

    Raises
    ------
    UnreadableFileError
        As `read` does.
    """
    with _own_matter(limits), heard_by([] if warned is None else warned):
        data, before = _read_bytes(path, limits)
        kind = file_type(path, data)
        reader = READERS[kind](limits)
        read_text, read_title = reader.load(path)
        text = _valid(read_text)
        if not text.strip():
            raise UnreadableFileError("no text in it")
        # The reader opened the file once more: hash and text have to be of the same bytes.
        if _version(path.stat()) != _version(before):
            raise UnreadableFileError(
                "it changed while it was read; the next ingest reads it again"
            )
    return text, {
        "title": _title(read_title) or _title(path.stem),
        "type": kind,
        "size": len(data),
        "modified": _moment(before.st_mtime),
        "content_hash": _hash(data, kind),
        # For the node parser, which tells each node its own.
        **({"places": reader.places} if reader.places else {}),
        # They are of the text as it was read, and of no other.
        **({"spans": reader.spans} if reader.spans and text == read_text else {}),
    }


def content_hash(file: SourceFile, section: "DocumentsSection") -> str:
    """Return a hex digest of a file's bytes and the readers' version: equal means nothing to do.

    Raises
    ------
    UnreadableFileError
        As `read` does, for what can be told without parsing.
    """
    limits = limits_of(section)
    with _own_matter(limits):
        data, _ = _read_bytes(file.absolute, limits)
        kind = file_type(file.absolute, data)
    return _hash(data, kind)


@contextmanager
def _own_matter(limits: Limits) -> Iterator[None]:
    """Turn whatever one file causes into the reason why it is skipped: no other is to suffer."""
    try:
        yield
    # A package that is not as it should be is no fault of the file.
    except (UnreadableFileError, ExtensionError):
        raise
    except MemoryError:
        raise UnreadableFileError(too_much_memory(limits)) from None
    except OSError as error:
        if error.errno is None:  # a library's, of what is in the file
            raise UnreadableFileError(f"truncated or damaged: {_one_line(error)}") from None
        raise UnreadableFileError(f"unreadable: {error.strerror or _one_line(error)}") from None
    except Exception as error:
        raise UnreadableFileError(f"truncated or damaged: {_one_line(error)}") from error


def limits_of(section: "DocumentsSection") -> Limits:
    """Return what reading one file may take."""
    most = round(section.max_file_size_mb * 1e6)
    return Limits(
        file_size=most,
        characters=most,
        unpacked=2 * most,
        seconds=section.max_seconds,
        # What recognizes letters takes as much as it takes, whatever the file.
        memory=round(section.max_memory_mb * 1e6) + (0 if section.ocr == "off" else _FOR_OCR),
        ocr=section.ocr,
        ocr_languages=section.ocr_languages,
    )


def too_much_memory(limits: Limits) -> str:
    """Say that a file takes more memory than allowed, or than there is."""
    return f"it takes more memory than documents.max_memory_mb = {limits.memory / 1e6:g} to read"


def _hash(data: bytes, kind: str) -> str:
    version = READERS.packages()[kind] if kind not in READERS.own else READERS_VERSION
    return hashlib.sha256(f"{version}\0".encode() + data).hexdigest()[:32]


def _version(status: os.stat_result) -> tuple[int, int]:
    """Return what tells that a file was written to."""
    return status.st_mtime_ns, status.st_size


def _read_bytes(path: Path, limits: Limits) -> tuple[bytes, os.stat_result]:
    """Read a regular file without ever waiting: /proc/kmsg is one, and so may be a pipe by now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableFileError("not a regular file")
        data = bytearray()
        while piece := file.read(1_000_000):
            data += piece
            # Both: what the system makes as one reads has the size 0, and
            # a file may grow meanwhile.
            if reason := too_large(max(len(data), status.st_size), limits.file_size):
                raise UnreadableFileError(reason)
        if piece is None:
            raise UnreadableFileError("unreadable: it has no end, the system makes it as one reads")
    if not data.strip():
        raise UnreadableFileError("empty")
    return bytes(data), status


def _valid(text: str) -> str:
    """Join surrogates that make a character, replace the others, which UTF-8 has not; no NUL."""
    text = text.replace("\0", "")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _title(title: Any) -> str:
    """Return a title in one line, not longer than any row can carry."""
    # Cut before it is split into words: a title may be as long as the file.
    line = " ".join(_valid(str(title or ""))[: 10 * MAX_TITLE].split())
    return line if len(line) <= MAX_TITLE else f"{line[: MAX_TITLE - 1]}…"


def _moment(seconds: float) -> str:
    """Return a time as ISO 8601; what no calendar holds becomes its first or last second."""
    last = datetime.max.replace(tzinfo=UTC, microsecond=0)
    first = datetime.min.replace(tzinfo=UTC)
    within = min(max(seconds, first.timestamp()), last.timestamp())
    return datetime.fromtimestamp(within, UTC).isoformat(timespec="seconds")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
