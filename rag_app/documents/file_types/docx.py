"""Reader of Word documents."""

import logging
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
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

_BODY = "word/document.xml"
_PROPERTIES = "docProps/core.xml"

_log = logging.getLogger(__name__)


class DocxReader(FileReader):
    """The text of a Word document: headers, body and footers, a blank line between paragraphs.

    The XML is read as it is unpacked and no tree is built, which of 300 kB can be gigabytes.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the paragraphs, and the title of the file's properties."""
        data = file.read_bytes()
        if data.startswith(_OLE_MAGIC):
            raise UnreadableFileError("encrypted, or an old .doc: save it as a plain .docx")
        if data.count(_MEMBER_MAGIC) > _MAX_MEMBERS:
            raise UnreadableFileError(f"its archive has more than {_MAX_MEMBERS} members")
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if _BODY not in members:
                raise UnreadableFileError(f"no Word document: there is no {_BODY} in it")

            def parse(name: str, target: _Target) -> None:
                for count in _parse(archive, members[name], target):
                    budget.take_unpacked(count, len(data))
                    budget.check_time()

            names = sorted(members)
            headers = [name for name in names if name.startswith("word/header")]
            footers = [name for name in names if name.startswith("word/footer")]
            for name in [*headers, _BODY, *footers]:
                parse(name, _WordText(budget))
            properties = _Title()
            if _PROPERTIES in members:
                try:
                    parse(_PROPERTIES, properties)
                except UnreadableFileError as error:
                    _log.warning("the title is left out: %s", error)
        return budget.text.strip(), properties.title


def _parse(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: "_Target") -> Iterator[int]:
    """Unpack a member of an archive into a parser's target; yield the bytes of each bit."""
    from lxml import etree  # 0.02 s

    if member.flag_bits & 1:
        raise UnreadableFileError("encrypted: its archive asks for a password")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UnreadableFileError(f"{member.filename} is compressed as no Word document is")
    # Without huge_tree libxml2 bounds the length of names and attributes (10 MB).
    parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True)
    try:
        with archive.open(member) as stream:
            while (chunk := stream.read(_CHUNK)) and not target.done:
                yield len(chunk)
                parser.feed(chunk)
        if not target.done:
            parser.close()
    except etree.XMLSyntaxError as error:
        why = str(error.msg).replace(", try XML_PARSE_HUGE", "").strip(" ,")
        raise UnreadableFileError(f"its {member.filename} cannot be parsed: {why}") from None


class _Target:
    """What lxml calls while it parses; `done` when it has seen enough."""

    def __init__(self) -> None:
        self.done = False
        self._depth = 0

    def start(self, tag: str, attributes: object) -> None:
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
        raise UnreadableFileError("its XML declares a document type, which Word documents may not")

    def close(self) -> None:
        """End the document."""


class _WordText(_Target):
    """Writes the text of WordprocessingML's runs; empty paragraphs leave no trace."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._runs = 0
        self._in_text = False
        self._ended = True

    def start(self, tag: str, attributes: object) -> None:
        """Begin a paragraph, a run or what stands in it."""
        super().start(tag, attributes)
        name = _word_name(tag)
        if name == "p":
            self._end_paragraph()
        elif name == "r":
            self._runs += 1
        elif name == "t":
            self._in_text = True
        elif self._runs and name == "tab":
            self._write("\t")
        elif self._runs and name in {"br", "cr"}:
            self._write("\n")

    def end(self, tag: str) -> None:
        """End a run or its text."""
        super().end(tag)
        name = _word_name(tag)
        if name == "r":
            self._runs -= 1
        elif name == "t":
            self._in_text = False

    def data(self, data: str) -> None:
        """Take a run's text."""
        if self._in_text:
            self._write(data)

    def close(self) -> None:
        """End the last paragraph."""
        self._end_paragraph()

    def _write(self, text: str) -> None:
        self._budget.write(text)
        self._ended = False

    def _end_paragraph(self) -> None:
        if not self._ended:
            self._budget.write("\n\n")
            self._ended = True


class _Title(_Target):
    """Keeps the beginning of the first title."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._in_title = False

    def start(self, tag: str, attributes: object) -> None:
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


@lru_cache(maxsize=1000)
def _word_name(tag: str) -> str:
    """Return the name of WordprocessingML's element, transitional or strict, else nothing."""
    space, _, name = tag.rpartition("}")
    return name if space.endswith(("wordprocessingml/2006/main", "wordprocessingml/main")) else ""
