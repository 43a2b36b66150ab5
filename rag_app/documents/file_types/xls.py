"""Reader of Excel's old workbooks (BIFF, .xls; xlrd)."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.number_formats import (
    EPOCH_1900,
    EPOCH_1904,
    format_of,
    shown,
)
from rag_app.documents.file_types.pdf import PAGE_BREAK
from rag_app.documents.file_types.sheets import MergedCells, Row, SheetWriter


class XlsReader(FileReader):
    """The sheets of a workbook, as those of an .xlsx: values as they are shown."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the sheets; those that are hidden are left out."""
        import xlrd  # 0.05 s

        try:
            # What it would print of a damaged file goes nowhere.
            book = xlrd.open_workbook(
                file_contents=file.read_bytes(),
                logfile=io.StringIO(),
                formatting_info=True,
                on_demand=True,
            )
        except xlrd.XLRDError as error:
            reason = str(error)
            if "encrypted" in reason.lower():
                raise UnreadableFileError("encrypted: it asks for a password") from None
            raise UnreadableFileError(f"no workbook that can be read: {reason}") from None
        is_filled = False
        for number, name in enumerate(book.sheet_names()):
            sheet = book.sheet_by_index(number)
            if not sheet.visibility:
                budget.write(PAGE_BREAK if is_filled else "")
                writer = SheetWriter(budget, name)
                writer.write(_rows(book, sheet, budget))
                is_filled = is_filled or writer.is_filled
            book.unload_sheet(number)
        if not is_filled:
            raise UnreadableFileError("no cells in it")
        return budget.text, None


def _rows(book: Any, sheet: Any, budget: Budget) -> Iterator[Row]:
    # xlrd's ranges end before their last row and column.
    ranges = [(top + 1, left, low, right - 1) for top, low, left, right in sheet.merged_cells]
    merged = MergedCells(ranges)
    for number in range(sheet.nrows):
        row: dict[int, str] = {}
        are_texts = True
        for column in range(sheet.row_len(number)):
            budget.tick()
            cell = sheet.cell(number, column)
            if value := " ".join(_shown(book, cell).split()):
                row[column] = value
                are_texts = are_texts and cell.ctype == 1
        yield number + 1, merged.fill(number + 1, row), are_texts


def _shown(book: Any, cell: Any) -> str:
    """Return a cell's value as it is shown; errors are shown by their names."""
    from xlrd.biffh import error_text_from_code

    if cell.ctype in {2, 3}:
        style = book.xf_list[cell.xf_index] if cell.xf_index is not None else None
        made = book.format_map.get(style.format_key) if style else None
        custom = made.format_str if made and made.format_key > 163 else None
        code = format_of(style.format_key, custom) if style else ""
        return shown(cell.value, code, EPOCH_1904 if book.datemode else EPOCH_1900)
    if cell.ctype == 4:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == 5:
        return str(error_text_from_code.get(cell.value, "#ERROR"))
    return str(cell.value)
