"""Reader of Excel workbooks (ECMA-376, part 1, "SpreadsheetML")."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target, name_of
from rag_app.documents.file_types.pdf import PAGE_BREAK

_WORKBOOK = "xl/workbook.xml"
# Excel's own limit: a cell beyond it was made up.
_MAX_COLUMNS = 16_384
_MAX_LABEL = 200
"""Characters of a column's name before each of its values."""

_MAX_DAY = 2_958_465
"""31 December 9999, as Excel counts days."""

_DATES = {*range(14, 18), 22, *range(27, 37), *range(50, 59)}
_TIMES = {18, 19, 20, 21, 45, 46, 47}
_PERCENT = {9, 10}
"""Formats by number that every workbook has (section 18.8.30)."""

_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')


class XlsxReader(FileReader):
    """The sheets of a workbook: each row on a line, each value behind its column's name.

    Names are those of the first row that has several texts and nothing else; rows of one cell above
    it are titles. Values are those that were computed last, dates as ISO 8601. Between sheets
    stands what stands between pages, so that nodes know their sheet.
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
                sheet = _Sheet(name, strings.texts, styles.kinds(), book.epoch, budget)
                package.parse(places.get(id_, ""), sheet)
                is_filled = is_filled or sheet.is_filled
            if not is_filled:
                raise UnreadableFileError("no cells in it")
            return budget.text, package.title()


class _Book(Target):
    """Keeps the sheets that are shown, as names and ids, and what days are counted from."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str]] = []
        # Excel takes 1900 for a leap year: counted from here its days are right from March 1900 on.
        self.epoch = datetime(1899, 12, 30)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a sheet."""
        super().start(tag, attributes)
        name = name_of(tag)
        if name == "workbookPr" and attributes.get("date1904") in {"1", "true"}:
            self.epoch = datetime(1904, 1, 1)
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

    def kinds(self) -> list[str]:
        """Return what each style makes of a number: "date", "time", "percent" or nothing."""
        return [self._kind(number) for number in self._of_cells]

    def _kind(self, number: int) -> str:
        code = _QUOTED.sub("", self._formats.get(number, "")[:1000]).lower()
        if number in _DATES or any(mark in code for mark in "yd"):
            return "date"
        if number in _TIMES or any(mark in code for mark in "hs"):
            return "time"
        return "percent" if number in _PERCENT or "%" in code else ""


class _Sheet(Target):
    """Writes the rows of a sheet."""

    def __init__(
        self,
        name: str,
        strings: list[str],
        kinds: list[str],
        epoch: datetime,
        budget: Budget,
    ) -> None:
        super().__init__()
        self.is_filled = False
        self._name = name
        self._strings = strings
        self._kinds = kinds
        self._epoch = epoch
        self._budget = budget
        self._labels: dict[int, str] | None = None
        self._row: dict[int, str] = {}
        self._are_texts = True
        self._column = -1
        self._type = ""
        self._style = 0
        self._pieces: list[str] = []
        self._in_value = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a row, a cell or its value."""
        super().start(tag, attributes)
        self._budget.tick()
        name = name_of(tag)
        if name == "row":
            self._row, self._are_texts, self._column = {}, True, -1
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
        if name == "c" and self._pieces and 0 <= self._column < _MAX_COLUMNS:
            if value := " ".join(self._value("".join(self._pieces)).split()):
                self._row[self._column] = value
                self._are_texts = self._are_texts and self._type in {"s", "str", "inlineStr"}
        elif name == "row" and self._row:
            self._end_row(dict(sorted(self._row.items())))

    def _value(self, value: str) -> str:
        """Return a cell's value as it is shown."""
        if self._type == "s":
            number = _number(value)
            return self._strings[number] if number < len(self._strings) else ""
        if self._type == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        kind = self._kinds[self._style] if self._style < len(self._kinds) else ""
        if self._type != "n" or not kind:
            return value
        try:
            return _shown(float(value), kind, self._epoch)
        except (ValueError, OverflowError):
            return value

    def _end_row(self, row: dict[int, str]) -> None:
        if not self.is_filled:
            self._budget.write(f"## {self._name}\n\n")
            self.is_filled = True
        if self._labels is None and len(row) > 1:
            if self._are_texts:
                self._labels = {column: _cut(name) for column, name in row.items()}
                self._budget.write(", ".join(row.values()) + "\n")
                return
            self._labels = {}
        labels = self._labels or {}
        for number, (column, value) in enumerate(row.items()):
            self._budget.write(", " if number else "")
            self._budget.write(f"{labels[column]}: {value}" if column in labels else value)
        self._budget.write("\n")


def _shown(value: float, kind: str, epoch: datetime) -> str:
    if kind == "percent":
        return f"{100 * value:.10g}%"
    if not 0 <= value <= _MAX_DAY:
        return f"{value:.15g}"
    moment = epoch + timedelta(seconds=round(value * 86_400))
    if kind == "time" and value < 1:
        return moment.time().isoformat()
    return moment.date().isoformat() if value == int(value) else moment.isoformat(" ")


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


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"
