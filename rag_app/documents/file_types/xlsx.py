"""Reader of Excel workbooks (ECMA-376, part 1, "SpreadsheetML")."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.number_formats import (
    EPOCH_1900,
    EPOCH_1904,
    format_of,
    shown,
)
from rag_app.documents.file_types.ooxml import Package, Target, name_of
from rag_app.documents.file_types.pdf import PAGE_BREAK
from rag_app.documents.file_types.sheets import MAX_COLUMNS, MergedCells, Row, SheetWriter

_WORKBOOK = "xl/workbook.xml"
_MERGED = re.compile(
    rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"'
)
_MAX_MERGED = 100_000
"""Merged ranges of a sheet that are filled."""


class XlsxReader(FileReader):
    """The sheets of a workbook: each row on a line, each value behind its column's name.

    Values are those that were computed last, numbers and dates as they are shown, merged cells all
    alike. Between sheets stands what stands between pages, so that nodes know their sheet.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the sheets, and the title of the file's properties."""
        otherwise = "encrypted, or an old .xls: save it as a plain .xlsx"
        with Package(file, budget, "workbook", otherwise) as package:
            if _WORKBOOK not in package:
                raise UnreadableFileError(f"no workbook: there is no {_WORKBOOK} in it")
            book, strings, styles = _Book(), _Strings(budget), _Styles()
            package.parse(_WORKBOOK, book)
            package.parse("xl/sharedStrings.xml", strings)
            package.parse("xl/styles.xml", styles)
            places = package.relations(_WORKBOOK)
            is_filled = False
            for number, (name, id_) in enumerate(book.sheets):
                budget.write(PAGE_BREAK if number else "")
                place = places.get(id_, "")
                sheet = _Sheet(strings.texts, styles.formats(), book.epoch, budget)
                merged = MergedCells(_merged_in(package, place))
                writer = SheetWriter(budget, name)
                writer.write(
                    (row, merged.fill(row, cells), texts)
                    for _ in package.pieces(place, sheet)
                    for row, cells, texts in sheet.taken()
                )
                is_filled = is_filled or writer.is_filled
            if not is_filled:
                raise UnreadableFileError("no cells in it")
            return budget.text, package.title()


class _Book(Target):
    """Keeps the sheets that are shown, as names and ids, and what days are counted from."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str]] = []
        self.epoch = EPOCH_1900

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a sheet."""
        super().start(tag, attributes)
        name = name_of(tag)
        if name == "workbookPr" and attributes.get("date1904") in {"1", "true"}:
            self.epoch = EPOCH_1904
        elif name == "sheet" and attributes.get("state", "visible") == "visible":
            ids = [value for key, value in attributes.items() if key.startswith("{")]
            self.sheets += [(attributes.get("name", ""), id_) for id_ in ids[:1]]


class _Strings(Target):
    """Keeps the texts that cells refer to by number."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._budget = budget
        self._kept = 0
        self._pieces: list[str] = []
        self._in_text = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a text."""
        super().start(tag, attributes)
        self._in_text = name_of(tag) == "t"

    def data(self, data: str) -> None:
        """Take a part of a text."""
        if self._in_text:
            self._kept += len(data)
            self._budget.check_text(self._kept)
            self._pieces.append(data)

    def end(self, tag: str) -> None:
        """End a text; how it is to be spoken is left out."""
        super().end(tag)
        self._in_text = False
        name = name_of(tag)
        if name == "rPh":
            self._pieces.clear()
        elif name == "si":
            self.texts.append("".join(self._pieces))
            self._pieces.clear()


class _Styles(Target):
    """Keeps which formats cells have."""

    def __init__(self) -> None:
        super().__init__()
        self._formats: dict[int, str] = {}
        self._of_cells: list[int] = []
        self._in_cells = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a format."""
        super().start(tag, attributes)
        name = name_of(tag)
        if name == "numFmt":
            self._formats[_number(attributes.get("numFmtId"))] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            self._in_cells = True
        elif name == "xf" and self._in_cells:
            self._of_cells.append(_number(attributes.get("numFmtId")))

    def end(self, tag: str) -> None:
        """End the formats of cells."""
        super().end(tag)
        if name_of(tag) == "cellXfs":
            self._in_cells = False

    def formats(self) -> list[str]:
        """Return the format of each style."""
        return [format_of(number, self._formats.get(number)) for number in self._of_cells]


class _Sheet(Target):
    """Keeps the rows of a sheet until they are taken."""

    def __init__(
        self, strings: list[str], formats: list[str], epoch: datetime, budget: Budget
    ) -> None:
        super().__init__()
        self._strings = strings
        self._formats = formats
        self._epoch = epoch
        self._budget = budget
        self._rows: list[Row] = []
        self._number = 0
        self._row: dict[int, str] = {}
        self._are_texts = True
        self._column = -1
        self._type = ""
        self._style = 0
        self._pieces: list[str] = []
        self._in_value = False

    def taken(self) -> list[Row]:
        """Return the rows that ended since this was called last."""
        rows, self._rows = self._rows, []
        return rows

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a row, a cell or its value."""
        super().start(tag, attributes)
        self._budget.tick()
        name = name_of(tag)
        if name == "row":
            self._row, self._are_texts, self._column = {}, True, -1
            # A row may leave its place out; then it is the next one.
            self._number = min(_number(attributes.get("r")) % 10**9, 10**7) or self._number + 1
        elif name == "c":
            # A cell may leave its place out; then it is the next one.
            self._column = _column(attributes.get("r", ""), self._column + 1)
            self._type = attributes.get("t", "n")
            self._style = _number(attributes.get("s"))
            self._pieces.clear()
        self._in_value = name in {"v", "t"}

    def data(self, data: str) -> None:
        """Take a part of a value."""
        if self._in_value:
            self._pieces.append(data)

    def end(self, tag: str) -> None:
        """End a value, a cell or a row."""
        super().end(tag)
        self._in_value = False
        name = name_of(tag)
        if name == "c" and self._pieces and 0 <= self._column < MAX_COLUMNS:
            if value := " ".join(self._value("".join(self._pieces)).split()):
                self._row[self._column] = value
                self._are_texts = self._are_texts and self._type in {"s", "str", "inlineStr"}
        elif name == "row" and self._row:
            self._rows.append((self._number, self._row, self._are_texts))

    def _value(self, value: str) -> str:
        """Return a cell's value as it is shown."""
        if self._type == "s":
            number = _number(value)
            return self._strings[number] if number < len(self._strings) else ""
        if self._type == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        code = self._formats[self._style] if self._style < len(self._formats) else ""
        if self._type != "n" or not code:
            return value
        try:
            return shown(float(value), code, self._epoch)
        except (ValueError, OverflowError):
            return value


def _merged_in(package: Package, name: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield the merged ranges of a sheet, which stand behind its rows."""
    before = b""
    count = 0
    for piece in package.chunks(name):
        for found in _MERGED.finditer(before + piece):
            count += 1
            if count > _MAX_MERGED:
                return
            left, top, right, bottom = (part.decode("ascii") for part in found.groups())
            yield int(top), _column(left, 0), int(bottom), _column(right, 0)
        # A range may stand in two pieces; one that ended is not found again.
        last = (before + piece).rfind(b"<")
        before = (before + piece)[last:][:1000] if last >= 0 else b""
        if before.find(b">") >= 0:
            before = b""


def _number(text: str | None) -> int:
    """Return a number that stands for a place in a list; what is none stands for none."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 10**9


def _column(reference: str, otherwise: int) -> int:
    """Return the column of a cell like "AB12", counted from 0."""
    letters = reference.rstrip("0123456789")
    if not (0 < len(letters) <= 3 and letters.isascii() and letters.isalpha()):
        return otherwise
    column = 0
    for letter in letters.upper():
        column = 26 * column + ord(letter) - ord("A") + 1
    return column - 1
