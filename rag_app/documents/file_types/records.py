"""Readers of tables and data: CSV, JSON, Jupyter notebooks."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.sheets import SheetWriter
from rag_app.documents.file_types.text import first_heading

_MAX_LABEL = 200
"""Characters of a key before each of its values; a longer one is cut there, and stands once in
full."""

_NUMBER = re.compile(r"\s*[-+]?[\d.,' ]{0,30}\d\s*[%€$]?\s*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_SAMPLE = 4096
"""Characters that csv.Sniffer looks at: its expressions take the square of it."""

_MAX_JSON_MEMORY = 500_000_000
"""Bytes of Python objects that a JSON text may become."""


class CSVReader(FileReader):
    """Each row on a line as "column: value, …", so that a row says what its values mean.

    Rows above the header are titles, as in any sheet (`sheets`).
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the rows; the delimiter is sniffed."""
        text = text_of(file)
        # newline="": the module wants to see the line breaks within a field as they are.
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, file))
        # The limit is the process's; a field is never longer than the text that is in memory.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        SheetWriter(budget, writes_header=False).write(
            (number, {column: value for column, value in enumerate(row) if value}, _are_names(row))
            for number, row in enumerate(rows, start=1)
        )
        return budget.text.removesuffix("\n"), None


class JSONReader(FileReader):
    """Each value on a line behind the keys that lead to it, a blank line between records."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the values of a file of JSON or JSON lines."""
        text = text_of(file)
        if file.suffix.lower() in {".jsonl", ".ndjson"}:
            records: Any = _parse_lines(text)
        else:
            whole = _parse_json(text)
            records = whole if isinstance(whole, list) else [whole]
        between = ""
        for record in records:
            for line in _leaves(record, budget):
                budget.write(between)
                budget.write(line)
                between = "\n"
            between = "\n\n" if between else ""
        return budget.text, None


class NotebookReader(FileReader):
    """A Jupyter notebook's cells in order, code in fences, without outputs (nbformat)."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the cells, and the first heading."""
        import nbformat

        # Whole numbers as such: nbformat compares its version.
        notebook = _parse_json(text_of(file), int)
        # Before nbformat, which copies all that is there: outputs hold pictures.
        _drop_outputs(notebook)
        try:
            # Not nbformat.reads: it validates each cell, and reports what is none of our business.
            given = nbformat.reader.reads(json.dumps(notebook))
            cells = nbformat.converter.convert(given, 4).cells
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            nbformat.ValidationError,
        ) as error:
            raise UnreadableFileError(f"not a notebook that can be read: {error}") from None
        for cell in cells:
            budget.tick()
            source = cell.get("source")
            if isinstance(source, str) and source.strip():
                code = cell.get("cell_type") == "code"
                budget.write(f"```\n{source}\n```\n\n" if code else f"{source}\n\n")
        text = budget.text.removesuffix("\n\n")
        return text, first_heading(text)


def _delimiter(text: str, file: Path) -> str:
    try:
        sample = "\n".join(text[:_SAMPLE].split("\n", 20)[:20])
        return csv.Sniffer().sniff(sample, delimiters=",;\t|").delimiter
    except csv.Error:
        return "\t" if file.suffix.lower() == ".tsv" else ","


def _are_names(row: list[str]) -> bool:
    """Tell whether a row may be a header: no value in it is a number, unless it may be a year."""
    return not any(_NUMBER.fullmatch(value) and not _YEAR.fullmatch(value) for value in row[:1000])


def _parse_lines(text: str) -> Iterator[Any]:
    # Not splitlines, which also splits at characters that JSON's texts may hold as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _parse_json(line)
            except ValueError as error:
                raise UnreadableFileError(
                    f"truncated or damaged: line {number} is no JSON: {error}"
                ) from None


def _label(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"


def _parse_json(text: str, number: Callable[[str], Any] = str) -> Any:
    """Parse JSON that will not take much memory; numbers stay as they are written unless converted.

    The estimate is from above: what stands in strings counts too. Sizes of CPython's empty objects.
    """
    marks = ((",", 60), ("{", 240), ("[", 72), ('"', 25))
    memory = sum(text.count(mark) * size for mark, size in marks)
    if memory > _MAX_JSON_MEMORY:
        raise UnreadableFileError(
            f"it has so many values that they would take {memory / 1e6:.0f} MB of memory; "
            "split it, or make it JSON lines"
        )
    try:
        return json.loads(text, parse_int=number, parse_float=str, parse_constant=str)
    except RecursionError:
        raise UnreadableFileError("its values are nested too deep to be read") from None


def _leaves(record: Any, budget: Budget) -> Iterator[str]:
    """Yield a line for each value, without recursion: nesting costs memory, not a stack."""
    around: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter((("", record),)))]
    while around:
        label, items = around[-1]
        for key, value in items:
            budget.tick()
            if len(key) > _MAX_LABEL:
                yield f"{label} {key}".lstrip()
            path = f"{label} {_label(key)}".strip() if key else label
            if isinstance(value, dict):
                around.append((path, iter(value.items())))
                break
            if isinstance(value, list):
                around.append((path, zip(repeat(""), value, strict=False)))
                break
            yield f"{path}: {value}" if path else str(value)
        else:
            around.pop()


def _drop_outputs(notebook: Any) -> None:
    """Drop what is not read, whatever size it has, where a notebook has it."""
    if not isinstance(notebook, dict):
        raise UnreadableFileError("not a notebook: it is no JSON object")
    # Where version 3 of the format has its cells.
    sheets = notebook.get("worksheets")
    for holder in [notebook, *(islice(sheets, 1000) if isinstance(sheets, list) else ())]:
        cells = holder.get("cells") if isinstance(holder, dict) else None
        for cell in cells if isinstance(cells, list) else ():
            if isinstance(cell, dict):
                cell.pop("attachments", None)
                if "outputs" in cell:
                    cell["outputs"] = []
