"""Archives of XML, as office files and e-books are: unpacked as they are read, no tree is built.

The XML of 300 kB can be gigabytes, and a tree of it more.
"""

import logging
import posixpath
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How a password-protected Office file begins (MS-OFFCRYPTO: it is an OLE file, not a zip)."""

_MEMBER_MAGIC = b"PK\x01\x02"
_MAX_MEMBERS = 20_000
"""Of an archive: zipfile keeps each one's name and sizes, and a name may be all that there is."""

_CHUNK = 65_536
_MAX_DEPTH = 1000
_ENOUGH = 3000
"""Characters of a title."""

_PROPERTIES = "docProps/core.xml"

_log = logging.getLogger(__name__)


class Target:
    """What lxml calls while it parses; `done` when it has seen enough."""

    def __init__(self) -> None:
        self.done = False
        self._depth = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnreadableFileError(f"its XML is nested more than {_MAX_DEPTH} deep")

    def end(self, tag: str) -> None:
        """End an element."""
        self._depth -= 1

    def data(self, data: str) -> None:
        """Take text."""

    def doctype(self, *_: object) -> None:
        """Refuse what the standard forbids (ECMA-376, part 2), and entities come from."""
        raise UnreadableFileError("its XML declares a document type, which it may not")

    def close(self) -> None:
        """End the document."""


class Package:
    """An open archive; what is unpacked is taken from the file's budget.

    Parameters
    ----------
    file
        Its path.
    budget
        Of the file.
    what
        What it should be, and what it is called otherwise, for the messages: "Word document", and
        "encrypted, or an old .doc: save it as a plain .docx".

    Raises
    ------
    UnreadableFileError
        If it is encrypted, or has too many members.
    """

    def __init__(self, file: Path, budget: Budget, what: str, otherwise: str) -> None:
        data = file.read_bytes()
        if data.startswith(_OLE_MAGIC):
            raise UnreadableFileError(otherwise)
        # Counted in the bytes: to list the members zipfile would make an object of each.
        if data.count(_MEMBER_MAGIC) > _MAX_MEMBERS:
            raise UnreadableFileError(f"its archive has more than {_MAX_MEMBERS} members")
        self._size = len(data)
        self._budget = budget
        self._what = what
        self._archive = zipfile.ZipFile(file)
        self._members = {info.filename: info for info in self._archive.infolist()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self, start: str) -> list[str]:
        """Return the members whose names begin so, sorted."""
        return sorted(name for name in self._members if name.startswith(start))

    def parse(self, name: str, target: Target) -> None:
        """Unpack a member into a parser's target, if it is there."""
        for _ in self.pieces(name, target):
            pass

    def chunks(self, name: str) -> Iterator[bytes]:
        """Unpack a member that is unpacked once more to be read: it counts there."""
        if name in self._members:
            with self._open(name) as stream:
                while chunk := stream.read(_CHUNK):
                    self._budget.check_time()
                    yield chunk

    def pieces(self, name: str, target: Target) -> Iterator[None]:
        """Unpack a member into a parser's target as `parse`, a piece at a time."""
        from lxml import etree  # 0.02 s

        if name not in self._members:
            return
        # Without huge_tree libxml2 bounds the length of names and attributes (10 MB).
        parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True)
        try:
            with self._open(name) as stream:
                while (chunk := self._take(stream)) and not target.done:
                    parser.feed(chunk)
                    yield
            # Closed in the middle of a document lxml would call it cut off.
            if not target.done:
                parser.close()
                yield
        except etree.XMLSyntaxError as error:
            why = str(error.msg).replace(", try XML_PARSE_HUGE", "").strip(" ,")
            raise UnreadableFileError(f"its {name} cannot be parsed: {why}") from None

    def read(self, name: str) -> bytes:
        """Unpack a member."""
        with self._open(name) as stream:
            return b"".join(iter(lambda: self._take(stream), b""))

    def title(self, properties_in: str = _PROPERTIES) -> str:
        """Return the title of the file's properties; what is damaged there is left out."""
        properties = _Title()
        try:
            self.parse(properties_in, properties)
        except UnreadableFileError as error:
            _log.warning("the title is left out: %s", error)
        return properties.title

    def relations(self, name: str) -> dict[str, str]:
        """Return which members a member refers to, by the ids that it has for them."""
        folder, base = posixpath.split(name)
        found = _Relations()
        self.parse(f"{folder}/_rels/{base}.rels", found)
        return {
            id_: posixpath.normpath(posixpath.join(folder, target)).lstrip("/")
            if not target.startswith("/")
            else target[1:]
            for id_, target in found.targets.items()
        }

    def _open(self, name: str) -> IO[bytes]:
        member = self._members[name]
        if member.flag_bits & 1:
            raise UnreadableFileError("encrypted: its archive asks for a password")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise UnreadableFileError(f"{name} is compressed as no {self._what} is")
        return self._archive.open(member)

    def _take(self, stream: IO[bytes]) -> bytes:
        chunk = stream.read(_CHUNK)
        self._budget.take_unpacked(len(chunk), self._size)
        self._budget.check_time()
        return chunk


class _Title(Target):
    """Keeps the beginning of the first title."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._in_title = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin the title."""
        super().start(tag, attributes)
        self._in_title = tag == "{http://purl.org/dc/elements/1.1/}title"

    def end(self, tag: str) -> None:
        """End it."""
        super().end(tag)
        self.done = self.done or self._in_title

    def data(self, data: str) -> None:
        """Take its text."""
        if self._in_title and not self.done:
            self.title += data
            self.done = len(self.title) > _ENOUGH


class _Relations(Target):
    """Keeps what a member refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a relation."""
        super().start(tag, attributes)
        # What a file refers to elsewhere is never fetched.
        if name_of(tag) == "Relationship" and attributes.get("TargetMode") != "External":
            self.targets[attributes.get("Id", "")] = attributes.get("Target", "")


def name_of(tag: str) -> str:
    """Return an element's or attribute's name without its namespace."""
    return tag.rpartition("}")[2]
