"""Uploaded files: each in a folder of its own below ``server.uploads_folder``, whole or not there.

A file's id is that of the document that it becomes, so that an answer's source, a vector store's
file and an upload are found by the same name.
"""

import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rag_app.config.server import ServerSection
from rag_app.documents.discover import SourceFile
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key

# What is named otherwise is not of this server's making: it is neither shown nor removed.
_FOLDER = re.compile(r"[0-9a-f]{16}-([0-9a-f]{0,16})\Z")
_BLOCK = 1 << 20
_LONGEST_NAME = 200
"""Bytes; file systems take 255."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Attributes
    ----------
    owner
        Tells the key that uploaded it (`owner_of`); empty: there was none.
    """

    file: SourceFile
    owner: str

    @property
    def id(self) -> str:
        """As OpenAI's clients have it: "file-" and the document's id."""
        return file_id(self.file.document_id)

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.file.path

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.file.absolute

    def may_be_seen_by(self, key: Key) -> bool:
        """Whether it is the key's own, or the key an admin's."""
        return key.may("admin") or self.owner == owner_of(key)


class Uploads:
    """The folder of the uploads, made when the first file comes.

    Parameters
    ----------
    section
        Says where it is, and how much a key and all of them may keep.
    most_bytes
        Of one file.
    """

    def __init__(self, section: ServerSection, most_bytes: int) -> None:
        self._folder = Path(section.uploads_folder).resolve()
        self._section = section
        self._most_bytes = most_bytes
        self._lock = threading.Lock()

    def add(self, name: str, content: BinaryIO, key: Key) -> Upload:
        """Keep a file.

        Raises
        ------
        RequestError
            413 if it is too large, 403 if the key, or all of them, keep as much as they may, 507 if
            the disk has no room for it.
        """
        folder = self._folder / f"{secrets.token_hex(8)}-{owner_of(key)}"
        file = SourceFile(safe_name(name), folder)
        try:
            folder.mkdir(parents=True, mode=0o700)
            temporary = folder / ".part"  # a dot: no ingest takes it for a document
            with temporary.open("xb") as out:
                # The body's guard knows the size of the whole form, and not of the file in it.
                left = self._most_bytes
                while block := content.read(_BLOCK):
                    left -= len(block)
                    if left < 0:
                        message = f"the file has more than {self._most_bytes:,} bytes"
                        raise RequestError(413, message, code="too_large", param="file")
                    out.write(block)
                out.flush()
                # On the disk before it gets its name: after a crash it is whole, or not there.
                os.fsync(out.fileno())
            with self._lock:  # of two that come at once the second one counts the first
                self._check_quotas(self._most_bytes - left, key)
                temporary.rename(file.absolute)
        # Also a stop of the server: half a file must not stay.
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise RequestError(507, "the file could not be kept", code="no_room") from error
            raise
        return Upload(file, owner_of(key))

    def all(self, key: Key) -> list[Upload]:
        """Return the files that a key may see, the oldest first: its own, an admin's all."""
        return sorted(
            (each for each in self._found() if each.may_be_seen_by(key)),
            key=lambda each: (each.path.stat().st_mtime, each.id),
        )

    def find(self, id_: str, key: Key) -> Upload:
        """Return a file.

        Raises
        ------
        RequestError
            404 if there is none of this id, or it is another's.
        """
        for each in self._found():
            if each.id == id_ and each.may_be_seen_by(key):
                return each
        raise RequestError(404, f"there is no file {id_!r}", code="file_not_found", param="file_id")

    def remove(self, upload: Upload) -> None:
        """Delete a file."""
        shutil.rmtree(upload.file.root)

    def _check_quotas(self, size: int, key: Key) -> None:
        """Refuse a file of this size beside those that are kept."""
        section = self._section
        kept = []
        for each in self._found():
            with suppress(FileNotFoundError):
                kept.append((each.owner, each.path.stat().st_size))
        own = [each for owner, each in kept if owner == owner_of(key)]
        everyones = [each for _, each in kept]
        whose = f"the key {key.name!r}" if key.name else "this server without keys"
        quotas = (
            (own, section.max_key_files, section.max_key_mb, whose, "max_key"),
            (everyones, section.max_all_files, section.max_all_mb, "the server", "max_all"),
        )
        for sizes, most_files, most_mb, who, setting in quotas:
            reached = ""
            if len(sizes) >= most_files:
                reached = f"{most_files:,} files (server.{setting}_files)"
            elif sum(sizes) + size > most_mb * 1e6:
                free = max(most_mb * 1e6 - sum(sizes), 0)
                reached = (
                    f"{most_mb:,g} MB (server.{setting}_mb), of which {free:,.0f} bytes are left"
                )
            if reached:
                raise RequestError(
                    403,
                    f"{who} may keep {reached}; delete files first: DELETE /v1/files/{{id}}",
                    code="insufficient_quota",
                    param="file",
                )

    def _found(self) -> Iterator[Upload]:
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            if (match := _FOLDER.match(folder.name)) is None:
                continue
            with suppress(FileNotFoundError):  # one that is removed at this moment
                for file in folder.iterdir():
                    if not file.name.startswith("."):
                        yield Upload(SourceFile(file.name, folder), match[1])


def owner_of(key: Key) -> str:
    """Return what tells a key from all others, those of its name that were revoked included."""
    return key.digest[:16]


def file_id(document_id: str) -> str:
    """Return a document's id as OpenAI's clients have it."""
    return f"file-{document_id}"


def safe_name(name: str) -> str:
    """Make a client's file name one of this file system: no folders, nothing unprintable."""
    base = re.split(r"[/\\]", name)[-1]
    shown = "".join(
        c if unicodedata.category(c)[0] != "C" else "_" for c in unicodedata.normalize("NFC", base)
    )
    # A leading dot would hide it from every list, and from the ingest.
    bare = shown.strip().lstrip(".")
    stem, dot, kind = bare.rpartition(".")
    if not dot or len(kind) > 20:
        stem, dot, kind = bare, "", ""
    # Cut at the stem: the suffix says who reads the file. In bytes, as file systems count.
    while len(f"{stem}{dot}{kind}".encode()) > _LONGEST_NAME:
        stem = stem[:-1]
    return f"{stem}{dot}{kind}" or "file"
