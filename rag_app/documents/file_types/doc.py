"""Reader of Word's old documents (MS-DOC, .doc; olefile)."""

import struct
from bisect import bisect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ole import OLE_MAGIC, check_ole

_WORD = 0xA5EC
_ENCRYPTED, _TABLE_1 = 0x0100, 0x0200
_COMPRESSED = 0x4000_0000
_STORY_LENGTHS = 0x4C
"""Where the file's information block has the characters of the text, notes, heads, comments, …"""

_PARAGRAPHS, _PIECES = 0x102, 0x1A2
"""Where it has the places of the tables of paragraphs and of pieces of text."""

_FKP = 512
_MAX_FIELDS = 100
"""Of fields in fields that are looked at."""

_MAX_PIECES = 1_000_000
_MARKS = str.maketrans(
    {
        **{"\r": "\n\n", "\x0b": "\n", "\x0c": "\n\n", "\x1e": "-", "\x1f": "", "\xa0": " "},
        **dict.fromkeys("\x01\x02\x03\x04\x05\x08", ""),
    }
)
"""Characters with a meaning of their own: ends, breaks, hyphens; pictures and references go."""


class DocReader(FileReader):
    """The text of an old Word document: paragraphs, headings, cells between "|", notes, comments.

    Others that are called so are read as what they are: RTF, pages, .docx.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the title of the file's properties."""
        with file.open("rb") as opened:
            head = opened.read(4096)
        if not head.startswith(OLE_MAGIC):
            return _as_it_is(file, head, budget)
        import olefile  # 0.03 s

        check_ole(file, "Word document")
        with olefile.OleFileIO(file) as ole:
            if not ole.exists("WordDocument"):
                raise UnreadableFileError("no Word document: there is no WordDocument in it")
            word = ole.openstream("WordDocument").read()
            flags = struct.unpack_from("<H", word, 0x0A)[0]
            if struct.unpack_from("<H", word)[0] != _WORD:
                raise UnreadableFileError(
                    "a Word document from before 1997: soffice --headless --convert-to docx"
                )
            if flags & _ENCRYPTED:
                raise UnreadableFileError("encrypted: it asks for a password")
            table = ole.openstream("1Table" if flags & _TABLE_1 else "0Table").read()
            title = ole.get_metadata().title
        _Document(word, table, budget).write()
        named = title.decode("cp1252", "replace") if isinstance(title, bytes) else title
        return budget.text.strip(), named


def _as_it_is(file: Path, head: bytes, budget: Budget) -> tuple[str, str | None]:
    """Read what is no Word document though it is called so."""
    from rag_app.documents.file_types.docx import DocxReader
    from rag_app.documents.file_types.html import HTMLReader
    from rag_app.documents.file_types.rtf import RtfReader
    from rag_app.documents.file_types.sniff import type_by_content

    if head.startswith(b"PK"):
        return DocxReader().extract(file, budget)
    others: dict[str | None, type[FileReader]] = {"rtf": RtfReader, "html": HTMLReader}
    if other := others.get(type_by_content(head)):
        return other().extract(file, budget)
    raise UnreadableFileError("truncated or damaged: no Word document")


class _Document:
    """Puts the pieces of the text together, and marks headings."""

    def __init__(self, word: bytes, table: bytes, budget: Budget) -> None:
        self._word = word
        self._table = table
        self._budget = budget
        self._starts, self._levels = self._paragraph_levels()

    def write(self) -> None:
        """Write the text, then its notes and comments."""
        text, notes, _, _, comments, end_notes = struct.unpack_from(
            "<6I", self._word, _STORY_LENGTHS
        )
        heads = struct.unpack_from("<I", self._word, _STORY_LENGTHS + 8)[0]
        at = 0
        for length, what in [
            (text, ""),
            (notes, "Note"),
            (heads, None),
            (0, None),
            (comments, "Comment"),
            (end_notes, "Note"),
        ]:
            if what is not None and length:
                self._write_story(at, at + length, what)
            at += length

    def _write_story(self, start: int, end: int, what: str) -> None:
        """Write a stretch of characters; of notes each paragraph, marked."""
        fields: list[bool] = []  # of each field that we are in, whether in what it does
        line: list[str] = []
        level = 0
        for character, place in self._characters(start, end):
            self._budget.tick()
            if character == "\x13":
                fields.append(True)
            elif character in "\x14\x15":
                if fields:
                    fields.pop()
                if character == "\x14":
                    fields.append(False)  # its result is text
            elif any(fields[-_MAX_FIELDS:]):
                continue
            elif character in "\r\x0c\x07":
                level = self._levels[bisect(self._starts, place) - 1] if self._starts else 0
                self._end_line("".join(line), character, level, what)
                line.clear()
            else:
                line.append(character)
        self._end_line("".join(line), "\r", 0, what)

    def _end_line(self, line: str, mark: str, level: int, what: str) -> None:
        text = line.translate(_MARKS).strip()
        if mark == "\x07":
            self._budget.write(f"{' '.join(text.split())} | " if text else "\n")
        elif text:
            said = f"[{what}: {text}]" if what else f"{'#' * level + ' ' if level else ''}{text}"
            self._budget.write(f"{said}\n\n")

    def _characters(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """Yield characters, and where each stands in the file."""
        for first, last, place, is_narrow in self._pieces():
            low, high = max(first, start), min(last, end)
            if low >= high:
                continue
            size = 1 if is_narrow else 2
            offset = place + size * (low - first)
            data = self._word[offset : offset + size * (high - low)]
            text = data.decode("cp1252" if is_narrow else "utf-16-le", "replace")
            self._budget.check_text(len(text))
            for number, character in enumerate(text):
                yield character, offset + size * number

    def _pieces(self) -> Iterator[tuple[int, int, int, bool]]:
        """Yield pieces: first and last character, place, and whether a character is one byte."""
        start, length = struct.unpack_from("<2I", self._word, _PIECES)
        clx = self._table[start : start + length]
        at = 0
        while at < len(clx) and clx[at] == 1:  # properties, which say nothing of the text
            at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
        if at >= len(clx) or clx[at] != 2:
            raise UnreadableFileError("truncated or damaged: it has no table of pieces")
        (size,) = struct.unpack_from("<I", clx, at + 1)
        plc = clx[at + 5 : at + 5 + size]
        count = (len(plc) - 4) // 12
        if not 0 < count <= _MAX_PIECES:
            raise UnreadableFileError("truncated or damaged: its table of pieces is none")
        ends = struct.unpack_from(f"<{count + 1}I", plc)
        for number, (first, last) in enumerate(pairwise(ends)):
            (place,) = struct.unpack_from("<I", plc, 4 * (count + 1) + 8 * number + 2)
            is_narrow = bool(place & _COMPRESSED)
            place &= ~_COMPRESSED
            yield first, last, place // 2 if is_narrow else place, is_narrow

    def _paragraph_levels(self) -> tuple[list[int], list[int]]:
        """Return where paragraphs begin in the file, and the level of each as a heading, or 0.

        Styles 1 to 9 are Word's headings in every document.
        """
        start, length = struct.unpack_from("<2I", self._word, _PARAGRAPHS)
        plc = self._table[start : start + length]
        count = max(0, (len(plc) - 4) // 8)
        found: list[tuple[int, int]] = []
        for number in range(min(count, _MAX_PIECES)):
            self._budget.tick()
            (page,) = struct.unpack_from("<I", plc, 4 * (count + 1) + 4 * number)
            data = self._word[(page & 0x3F_FFFF) * _FKP :][:_FKP]
            if len(data) == _FKP:
                found += _levels_in(data)
        found.sort()
        return [place for place, _ in found], [level for _, level in found]


def _levels_in(page: bytes) -> Iterator[tuple[int, int]]:
    count = min(page[-1], 29)
    starts = struct.unpack_from(f"<{count + 1}I", page)
    for number in range(count):
        offset = 2 * page[4 * (count + 1) + 13 * number]
        style = 0
        if 0 < offset < _FKP - 4:
            offset += 1 if page[offset] else 2
            (style,) = struct.unpack_from("<H", page, min(offset, _FKP - 2))
        yield starts[number], min(style, 6) if 1 <= style <= 9 else 0
