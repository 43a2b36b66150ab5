"""How the rows of a sheet become text, whatever the file: each value behind its column's name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, islice

from rag_app.documents.file_types.limits import Budget

MAX_COLUMNS = 16_384
"""Excel's own limit: a cell beyond it was made up."""

_MAX_LABEL = 200
"""Characters of a column's name before each of its values; a longer one is cut there, and stands
once in full."""

_LOOKED_AT = 30
"""Rows at the top of a sheet among which its header is looked for."""

Row = tuple[int, dict[int, str], bool]
"""Its number from 1, its values by column from 0, and whether all of them are texts."""


class SheetWriter:
    """Writes a sheet, a line for each row.

    The header is the first row near the top that holds texts alone and as many of them as most rows
    have values: rows above it are titles. Nodes are told their sheet and rows.

    Parameters
    ----------
    budget
        Of the file.
    name
        Of the sheet; empty where a file is one sheet.
    writes_header
        Let the header stand on a line of its own as well.
    """

    def __init__(self, budget: Budget, name: str = "", *, writes_header: bool = True) -> None:
        self.is_filled = False
        self._budget = budget
        self._name = name
        self._writes_header = writes_header
        self._next = 0

    def write(self, rows: Iterable[Row]) -> None:
        """Write the rows; what is empty leaves no trace."""
        filled = ((number, row, texts) for number, row, texts in rows if row)
        top = list(islice(filled, _LOOKED_AT))
        header = _header_among(top)
        if header < 0 and not self._writes_header and all(len(row) == 1 for _, row, _ in top):
            header = (
                0 if top else -1
            )  # of a file of one column the first line is taken for its name
        is_long = any(len(name) > _MAX_LABEL for name in (top[header][1] if top else {}).values())
        shows = self._writes_header or is_long or header + 1 == len(top)
        for number, row, _ in top[: header + shows]:
            self._write_row(number, row, {})
        names = dict(top[header][1]) if header >= 0 else {}
        start = header + 1
        if start < len(top) and top[start][2] and len(set(names.values())) < len(names):
            # Names over several columns, with a second line of names below them.
            for column, name in top[start][1].items():
                if names.setdefault(column, name) != name:
                    names[column] += f" {name}"
            self._write_row(*top[start][:2], {})
            start += 1
        labels = {column: _cut(name) for column, name in names.items()}
        for number, row, _ in chain(top[start:], filled):
            self._write_row(number, row, labels)

    def _write_row(self, number: int, row: Mapping[int, str], labels: Mapping[int, str]) -> None:
        self._budget.check_time()
        if not self.is_filled and self._name:
            self._budget.write(f"## {self._name}\n\n")
        self.is_filled = True
        if number != self._next:
            self._budget.place(self._name, "row", number)
        self._next = number + 1
        before = ""
        for column, value in sorted(row.items()):
            label = labels.get(column, "")
            self._budget.write(f"{before}{label}: {value}" if label else f"{before}{value}")
            if "\n" in value:
                self._next = 0  # a row of several lines: the next one is counted anew
            before = ", "
        self._budget.write("\n")


def _header_among(top: list[Row]) -> int:
    """Return which of the first rows is the header; -1 where none is."""
    widths = Counter(len(row) for _, row, _ in top if len(row) > 1)
    if not widths:
        return -1
    # As many values as most rows have; a row may leave some empty, and a title has one or two.
    usual = max(widths, key=lambda width: (widths[width], width))
    for at, (_, row, are_texts) in enumerate(top):
        if not are_texts and len(row) >= max(2, usual):
            return -1  # values before any header: there is none
        if are_texts and 2 * len(row) > usual and len(row) > 1:
            below = top[at + 1] if at + 1 < len(top) else None
            # A second title row of two cells above a wider header.
            if below and below[2] and len(below[1]) > len(row) and len(row) < usual:
                continue
            return at
    return -1


class MergedCells:
    """Fills merged ranges row by row: what a person sees over several cells holds for each.

    Parameters
    ----------
    ranges
        First row, first column, last row, last column; rows from 1, columns from 0, all inclusive.
    """

    _MOST = 100_000
    """Cells to fill in a sheet: a range may be a whole one."""

    def __init__(self, ranges: Iterable[tuple[int, int, int, int]]) -> None:
        self.ranges = sorted(ranges)
        self._open: list[tuple[int, int, int, str]] = []
        self._next = 0
        self._filled = 0

    def fill(self, number: int, row: dict[int, str]) -> dict[int, str]:
        """Return a row with the values of the ranges that it is in; rows come in order."""
        while self._next < len(self.ranges) and self.ranges[self._next][0] <= number:
            top, left, bottom, right = self.ranges[self._next]
            self._next += 1
            if top == number and (value := row.get(left)):
                self._open.append((left, bottom, min(right, MAX_COLUMNS), value))
        self._open = [each for each in self._open if each[1] >= number]
        if not row or (len(row) == 1 and len(self._open) == 1 and self._open[0][3] in row.values()):
            return row  # empty, or a title over the whole width
        for left, _, right, value in self._open:
            for column in range(left, right + 1):
                if column not in row and self._filled < self._MOST:
                    row[column] = value
                    self._filled += 1
        return row


def _cut(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"
