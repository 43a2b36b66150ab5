"""Sheets of any kind of file: titles, headers, merged cells, and values as they are shown."""

import io
from pathlib import Path

import pytest
from openpyxl.workbook import Workbook

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types.limits import Budget, Limits
from rag_app.documents.file_types.number_formats import shown
from rag_app.documents.file_types.sheets import SheetWriter
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import read
from tests.conftest import words

from .test_mail_and_rtf import told


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (1234.5, "#,##0.00", "1,234.50"),
        (1234.5, "0", "1234"),
        (0.1256, "0.0%", "12.6%"),
        (-1234, '#,##0 "€";[Red]-#,##0 "€"', "-1,234 €"),
        (-5, "0.00;(0.00)", "(5.00)"),
        (0, '0;-0;"none"', "none"),
        (1234, "[$$-409]#,##0.00", "$1,234.00"),
        (1.5, "0.###", "1.5"),
        (12345678, '0.0,,"M"', "12.3M"),
        (0.00012, "0.00E+00", "1.20E-04"),
        (46351, "dd.mm.yyyy", "25.11.2026"),
        (46351.5625, "yyyy-mm-dd hh:mm", "2026-11-25 13:30"),
        (46351.5625, "h:mm AM/PM", "1:30 PM"),
        (46351, "d mmmm yyyy", "25 November 2026"),
        (46351, "iso", "2026-11-25"),
        (1.5, "[h]:mm", "36:00"),
        (1234.5, "General", "1234.5"),
        (-1, "dd.mm.yyyy", "-1"),
        (1e300, "#,##0.00", None),
    ],
)
def test_numbers_are_shown_as_formatted(value: float, code: str, text: str | None) -> None:
    assert shown(value, code) == text if text else shown(value, code)


def written(*rows: dict[int, str], name: str = "") -> list[str]:
    budget = Budget(Limits())
    SheetWriter(budget, name).write(
        (number, row, not any(value[:1].isdigit() for value in row.values()))
        for number, row in enumerate(rows, start=1)
    )
    return budget.text.splitlines()


def row(*values: str) -> dict[int, str]:
    return {column: value for column, value in enumerate(values) if value}


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([row("Orders"), row("of", "2026"), row("Item", "Sum", "Due"), row("a", "1", "2")], 3),
        ([row("Item", "Sum", "Due"), row("a", "1", "2")], 1),
        ([row("Report", "Internal"), row("Item", "Sum", "Due"), row("a", "1", "2")], 2),
    ],
)
def test_rows_above_the_header_are_titles(rows: list[dict[int, str]], last: int) -> None:
    lines = written(*rows)
    assert lines[last] == "Item: a, Sum: 1, Due: 2"
    assert lines[last - 1] == "Item, Sum, Due"


def test_values_without_a_header_have_no_names() -> None:
    assert written(row("1", "2"), row("a", "b")) == ["1, 2", "a, b"]


def test_merged_cells_are_filled_and_rows_are_cited(tmp_path: Path) -> None:
    made = Workbook()
    sheet = made.active
    sheet.title = "Costs"
    for line in [
        ["Costs of 2026", None, None],
        ["Region", "First half", None],
        [None, "Q1", "Q2"],
        ["North", 1, 2],
        [None, 3, 4],
    ]:
        sheet.append(line)
    for cells in ("A1:C1", "B2:C2", "A2:A3", "A4:A5"):
        sheet.merge_cells(cells)
    for line in range(50):
        sheet.append([f"Town {line}", line, line])
    out = io.BytesIO()
    made.save(out)
    text, _, _ = told(tmp_path / "a.xlsx", out.getvalue())
    lines = text.splitlines()
    assert lines[2:7] == [
        "Costs of 2026",
        "Region, First half, First half",
        "Region, Q1, Q2",
        "Region: North, First half Q1: 1, First half Q2: 2",
        "Region: North, First half Q1: 3, First half Q2: 4",
    ]
    document = read(SourceFile("a.xlsx", tmp_path), DocumentsSection())
    nodes = NodeParser(ChunkingSection(size=30, overlap=0), words, 100).split(document)
    (found,) = (node for node in nodes if "Town 7," in node.text)
    assert found.metadata["headings"].startswith("Costs › row")
    first, last = found.metadata["headings"].split()[-1].split("-")
    assert int(first) <= 13 <= int(last) < int(first) + 10
    assert "places" not in found.metadata
