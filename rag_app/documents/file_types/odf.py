"""Readers of OpenDocument files (ODF 1.3): texts, sheets and presentations."""

from collections.abc import Mapping
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target, name_of
from rag_app.documents.file_types.pdf import PAGE_BREAK
from rag_app.documents.file_types.sheets import MAX_COLUMNS, MergedCells, Row, SheetWriter
from rag_app.documents.file_types.tables import Table

_CONTENT = "content.xml"
_NOT_TEXT = {"tracked-changes", "forms", "scripts", "annotation-end", "font-face-decls", "styles"}
_MAX_REPEATED = 1000
"""Times that a cell or row is taken that is repeated; sheets end with a million empty ones."""

_MAX_SPACES = 100


class _OdfReader(FileReader):
    """What the three kinds share."""

    what = ""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the title of the file's properties."""
        otherwise = f"no {self.what}: it is an Office file"
        with Package(file, budget, self.what, otherwise) as package:
            if _CONTENT not in package:
                raise UnreadableFileError(f"no {self.what}: there is no {_CONTENT} in it")
            if b"encryption-data" in b"".join(package.chunks("META-INF/manifest.xml")):
                raise UnreadableFileError("encrypted: it asks for a password")
            self.write(package, budget)
            return budget.text.strip(" \n"), package.title("meta.xml")

    def write(self, package: Package, budget: Budget) -> None:
        """Write the content."""
        raise NotImplementedError


class OdtReader(_OdfReader):
    """A text as Markdown: headings, lists, tables; notes, and comments marked as such."""

    what = "text document"

    def write(self, package: Package, budget: Budget) -> None:
        """Write the paragraphs."""
        package.parse(_CONTENT, _Text(budget))


class OdpReader(_OdfReader):
    """A presentation's slides in order: title, text, tables, the speaker's notes."""

    what = "presentation"

    def write(self, package: Package, budget: Budget) -> None:
        """Write the slides, with what stands between pages between them."""
        package.parse(_CONTENT, _Text(budget))
        if not budget.text.strip(f"{PAGE_BREAK} \n"):
            raise UnreadableFileError("no slides in it")


class OdsReader(_OdfReader):
    """The sheets of a workbook, as those of an .xlsx: values as they are shown."""

    what = "workbook"

    def write(self, package: Package, budget: Budget) -> None:
        """Write the sheets, with what stands between pages between them."""
        sheets = _Sheets(budget)
        package.parse(_CONTENT, sheets)
        if not sheets.are_filled:
            raise UnreadableFileError("no cells in it")


class _Odf(Target):
    """Collects the text of paragraphs, as it is shown."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._pieces: list[str] = []
        self._kept = 0
        self._paragraphs = 0
        self._dropped = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        super().start(tag, attributes)
        self._budget.tick()
        name = name_of(tag)
        if self._dropped or name in _NOT_TEXT:
            self._dropped += 1
            return
        if name in {"p", "h"}:
            self._paragraphs += 1
        elif name == "s":
            self._take(" " * min(_number(attributes, "c", 1), _MAX_SPACES))
        elif name in {"tab", "line-break"}:
            self._take("\t" if name == "tab" else "\n")
        self.begin(name, attributes)

    def end(self, tag: str) -> None:
        """End an element."""
        super().end(tag)
        if self._dropped:
            self._dropped -= 1
            return
        name = name_of(tag)
        if name in {"p", "h"}:
            self._paragraphs -= 1
        self.finish(name)

    def data(self, data: str) -> None:
        """Take the text of a paragraph; white space is one space (section 6.1.2)."""
        if self._paragraphs and not self._dropped:
            self._take(" ".join(f"|{data}|".split())[1:-1])

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin an element that is not dropped."""

    def finish(self, name: str) -> None:
        """End it."""

    def _take(self, text: str) -> None:
        self._kept += len(text)
        self._budget.check_text(self._kept)
        self._pieces.append(text)

    def _taken(self) -> str:
        text = "".join(self._pieces).strip()
        self._pieces.clear()
        self._kept = 0
        return text


class _Text(_Odf):
    """Writes paragraphs as Markdown; of a presentation slide by slide."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self._level = 0
        self._lists = 0
        self._is_item = False
        self._slides = 0
        self._title = ""
        self._kind = ""
        self._in_notes = False
        self._tables: list[Table] = []
        # A note stands within its paragraph, and is written behind it.
        self._around: list[list[str]] = []
        self._asides: list[str] = []

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin a paragraph, a list, a table, a note, a slide."""
        if name == "h":
            self._level = min(_number(attributes, "outline-level", 1), 6)
        elif name == "list":
            self._lists += 1
        elif name == "list-item":
            self._is_item = True
        elif name == "table":
            self._tables.append(Table(self._budget))
        elif name == "table-cell" and self._tables:
            spans = (_number(attributes, f"number-{of}-spanned", 1) for of in ("columns", "rows"))
            self._tables[-1].begin_cell(*spans)
            self._taken()
        elif name in {"note", "annotation"}:
            self._around.append(self._pieces)
            self._pieces = []
        elif name == "page":
            self._budget.write(PAGE_BREAK if self._slides else "")
            self._slides += 1
            self._title = ""
        elif name == "frame":
            self._kind = _attribute(attributes, "class")
        elif name == "notes" and self._slides:
            self._in_notes = True
            self._budget.write("Notes: ")

    def finish(self, name: str) -> None:
        """End it."""
        if name in {"p", "h"}:
            if not self._around:
                self._end_paragraph()
            else:
                self._take(" ")
            self._level = 0
        elif name == "list":
            self._lists -= 1
        elif name in {"note", "annotation"} and self._around:
            what = "Note" if name == "note" else "Comment"
            said = " ".join("".join(self._pieces).split())
            self._pieces = self._around.pop()
            self._asides += [f"[{what}: {said}]"] if said else []
        elif name == "table-cell" and self._tables:
            self._tables[-1].end_cell()
        elif name == "table-row" and self._tables:
            self._tables[-1].end_row()
        elif name == "table" and self._tables:
            text = self._tables.pop().text
            if self._tables:
                self._tables[-1].take(" ".join(text.split()))
            else:
                self._budget.write(f"{text}\n")
        elif name == "frame":
            self._kind = ""
        elif name == "notes":
            self._in_notes = False

    def _end_paragraph(self) -> None:
        text = self._taken()
        if self._tables:
            asides = [f" {aside}" for aside in self._asides]
            self._asides.clear()
            self._tables[-1].take(" ".join(text.split()) + "".join(asides) + " ")
            return
        if text:
            self._budget.write(f"{self._mark()}{text}\n\n")
        for aside in self._asides:
            self._budget.write(f"{aside}\n\n")
        self._asides.clear()

    def _mark(self) -> str:
        if self._kind == "title" and not self._title and not self._in_notes:
            self._title = "set"
            return "## "
        if self._level:
            return f"{'#' * self._level} "
        if self._lists:
            first, self._is_item = self._is_item, False
            return "  " * min(self._lists - 1, 8) + ("- " if first else "  ")
        return ""


class _Sheets(_Odf):
    """Writes the rows of sheets."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self.are_filled = False
        self._name = ""
        self._rows: list[Row] = []
        self._ranges: list[tuple[int, int, int, int]] = []
        self._number = 0
        self._repeated = 1
        self._row: dict[int, str] = {}
        self._are_texts = True
        self._column = 0
        self._cell: tuple[int, int, int, str] = (1, 1, 1, "")
        self._kept_in_cells = 0

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin a sheet, a row or a cell."""
        if name == "table":
            self._name = _attribute(attributes, "name")
            self._rows, self._ranges, self._number = [], [], 0
        elif name == "table-row":
            self._row, self._are_texts, self._column = {}, True, 0
            self._repeated = _number(attributes, "number-rows-repeated", 1)
        elif name in {"table-cell", "covered-table-cell"}:
            self._taken()
            self._cell = (
                _number(attributes, "number-columns-repeated", 1),
                _number(attributes, "number-columns-spanned", 1),
                _number(attributes, "number-rows-spanned", 1),
                _attribute(attributes, "value-type"),
            )

    def finish(self, name: str) -> None:
        """End it."""
        if name == "p":
            self._take(" ")
        elif name == "annotation":
            self._taken()
        elif name in {"table-cell", "covered-table-cell"}:
            self._end_cell()
        elif name == "table-row":
            if self._row:
                for number in range(min(self._repeated, _MAX_REPEATED)):
                    row = (self._number + number + 1, dict(self._row), self._are_texts)
                    self._rows.append(row)
            self._number += self._repeated
        elif name == "table" and self._rows:
            merged = MergedCells(self._ranges)
            self._budget.write(PAGE_BREAK if self.are_filled else "")
            SheetWriter(self._budget, self._name).write(
                (number, merged.fill(number, row), texts) for number, row, texts in self._rows
            )
            self.are_filled = True
            self._rows = []

    def _end_cell(self) -> None:
        value = " ".join(self._taken().split())
        repeated, wide, high, kind = self._cell
        if value and self._column < MAX_COLUMNS:
            self._kept_in_cells += len(value)
            self._budget.check_text(self._kept_in_cells)
            for column in range(self._column, self._column + min(repeated, _MAX_REPEATED)):
                self._row[column] = value
            self._are_texts = self._are_texts and kind in {"string", ""}
            if wide > 1 or high > 1:
                top, left = self._number + 1, self._column
                self._ranges.append((top, left, top + high - 1, left + wide - 1))
        self._column += repeated


def _attribute(attributes: Mapping[str, str], name: str) -> str:
    return next((value for key, value in attributes.items() if name_of(key) == name), "")


def _number(attributes: Mapping[str, str], name: str, otherwise: int) -> int:
    text = _attribute(attributes, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else otherwise
