"""Reader of archives: ZIP and TAR, within limits on count, size, ratio and depth."""

import logging
import tarfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.inside import one_line, write_inside
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_MAX_MEMBERS = 20_000
_MEMBER_MAGIC = b"PK\x01\x02"
_CHUNK = 65_536
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_LEFT_OUT = ("__MACOSX/*", "*/__MACOSX/*", ".*", "*/.*", "Thumbs.db", "*/Thumbs.db")
"""What systems put into archives, and hidden files."""

_log = logging.getLogger(__name__)


class ArchiveReader(FileReader):
    """The files in an archive, each below its name and read as its own type.

    A file that cannot be read is left out with a warning, as in a folder.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the texts of the members in their order."""
        size = file.stat().st_size
        written = seen = 0
        with file.open("rb") as opened:
            is_zip = opened.read(2) == b"PK"
        members = _zipped(file) if is_zip else _tarred(file)
        for name, stream in members:
            budget.check_time()
            seen += 1
            if seen > _MAX_MEMBERS:
                raise UnreadableFileError(f"its archive has more than {_MAX_MEMBERS:,} files")
            if any(fnmatch(name, pattern) for pattern in _LEFT_OUT):
                continue
            data = bytearray()
            while chunk := stream.read(_CHUNK):
                data += chunk
                budget.take_unpacked(len(chunk), size)
                budget.check_time()
            if data.strip():
                written += write_inside(budget, name, bytes(data))
        if not written:
            raise UnreadableFileError("no file in it that could be read")
        return budget.text.strip(), None


def _zipped(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    # Counted in the bytes: to list the members zipfile would make an object of each.
    if file.read_bytes().count(_MEMBER_MAGIC) > _MAX_MEMBERS:
        raise UnreadableFileError(f"its archive has more than {_MAX_MEMBERS:,} files")
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = one_line(member.filename)
            if member.is_dir():
                continue
            if member.flag_bits & 1:
                _log.warning("the file %s is left out: encrypted: it asks for a password", name)
            elif member.compress_type not in _METHODS:
                _log.warning("the file %s is left out: compressed in an unknown way", name)
            else:
                with archive.open(member) as stream:
                    yield name, stream


def _tarred(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    # As a stream: nothing is kept of the members before.
    with tarfile.open(file, "r|*") as archive:
        for number, member in enumerate(archive):
            if number >= _MAX_MEMBERS:
                raise UnreadableFileError(f"its archive has more than {_MAX_MEMBERS:,} files")
            # Links and devices are none: what they lead to is not in the archive.
            if member.isreg() and (stream := archive.extractfile(member)):
                yield one_line(member.name), stream
