"""Presentations, workbooks and e-books, made by the libraries that people make them with."""

import datetime
import io
import zipfile
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from openpyxl.workbook import Workbook
from pptx.util import Inches

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import read
from tests.conftest import words

from .hostile import WORD, document_xml, paragraph
from .hostile_office import book, sheet, zipped
from .test_mail_and_rtf import told


def presentation() -> bytes:
    made = pptx.Presentation()
    made.core_properties.title = "Quarterly review"
    first = made.slides.add_slide(made.slide_layouts[1])
    first.shapes.title.text = "Results"
    first.placeholders[1].text_frame.text = "Sales grew"
    first.placeholders[1].text_frame.add_paragraph().text = "Costs fell"
    first.notes_slide.notes_text_frame.text = "Mention the new office."
    second = made.slides.add_slide(made.slide_layouts[5])
    second.shapes.title.text = "Numbers"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for row, texts in enumerate([("Region", "Sales"), ("North | East", "12")]):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    third = made.slides.add_slide(made.slide_layouts[6])
    box = third.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1))
    box.text_frame.text = "Größe zählt"
    slides = made.slides._sldIdLst  # the third is shown first
    slides.insert(0, slides[2])
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def test_presentation_is_its_slides_in_order(tmp_path: Path) -> None:
    text, title, warned = told(tmp_path / "a.pptx", presentation())
    assert (title, warned) == ("Quarterly review", [])
    slides = [slide.strip() for slide in text.split("\f")]
    assert slides == [
        "## Slide 1\n\nGröße zählt",
        "## Results\n\nSales grew\nCosts fell\n\nNotes: Mention the new office.",
        "## Numbers\n\n| Region | Sales |\n| --- | --- |\n| North \\| East | 12 |",
    ]


def test_nodes_of_a_presentation_know_their_slide(tmp_path: Path) -> None:
    (tmp_path / "a.pptx").write_bytes(presentation())
    document = read(SourceFile("a.pptx", tmp_path), DocumentsSection())
    nodes = NodeParser(ChunkingSection(size=16, overlap=0), words, 100).split(document)
    assert [nodes[0].metadata["page"], nodes[-1].metadata["page"]] == [1, 3]


def workbook() -> bytes:
    made = Workbook()
    orders = made.active
    orders.title = "Orders"
    orders.append(["Orders of 2026"])
    orders.append([])
    orders.append(["Item", "Amount", "Due", "Share", "Sum"])
    orders.append(["Screws", 12, datetime.date(2026, 11, 25), 0.125, "=B4*2"])
    orders.append(["Größe M", None, datetime.datetime(2026, 11, 25, 13, 30), 1, None])
    orders["D4"].number_format = orders["D5"].number_format = "0.0%"
    hidden = made.create_sheet("Secret")
    hidden.append(["not", "shown"])
    hidden.sheet_state = "hidden"
    plain = made.create_sheet("Plain")
    plain.append([1, 2.5, True])
    plain["C9"] = "far down"
    made.properties.title = "Order book"
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def test_workbook_is_its_rows_behind_the_columns_names(tmp_path: Path) -> None:
    text, title, warned = told(tmp_path / "a.xlsx", workbook())
    assert (title, warned) == ("Order book", [])
    orders, plain = text.split("\f")
    assert orders.splitlines() == [
        "## Orders",
        "",
        "Orders of 2026",
        "Item, Amount, Due, Share, Sum",
        "Item: Screws, Amount: 12, Due: 2026-11-25, Share: 12.5%",
        "Item: Größe M, Due: 2026-11-25 13:30:00, Share: 100.0%",
    ]
    assert plain.splitlines() == ["## Plain", "", "1, 2.5, TRUE", "far down"]


def test_formulas_values_are_read(tmp_path: Path) -> None:
    cells = '<c t="str"><f>CONCAT("a")</f><v>computed</v></c><c><f>1+1</f><v>2</v></c>'
    text, _, _ = told(tmp_path / "a.xlsx", sheet(f"<row>{cells}</row>"))
    assert text.splitlines()[-1] == "computed, 2"


def test_dates_of_1904_and_odd_numbers(tmp_path: Path) -> None:
    styles = '<styleSheet><cellXfs><xf numFmtId="14"/><xf numFmtId="20"/></cellXfs></styleSheet>'
    row = "".join(
        f'<c s="{style}"><v>{value}</v></c>'
        for style, value in [(0, 1), (0, -5), (0, "1e300"), (0, "nan"), (1, 0.5), (9, 7), (0, "x")]
    )
    text, _, _ = told(tmp_path / "a.xlsx", sheet(f"<row>{row}</row>", styles, 'date1904="1"'))
    assert text.splitlines()[-1] == "1904-01-02, -5, 1e+300, nan, 12:00, 7, x"


def test_book_is_its_chapters_in_reading_order(tmp_path: Path) -> None:
    text, title, warned = told(
        tmp_path / "a.epub",
        book({"c2.xhtml": "<h1>Second</h1><p>End.</p>", "c1.xhtml": "<h1>First</h1><p>Größe.</p>"}),
    )
    assert (title, warned) == ("A book", [])
    assert text == "# First\n\nGröße.\n\n# Second\n\nEnd."


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pptx", zipped({"x": b""}), "no presentation"),
        ("a.xlsx", zipped({"x": b""}), "no workbook"),
        ("a.epub", zipped({"x": b""}), "no e-book"),
        ("a.epub", zipped({"META-INF/rights.xml": b""}), "protected against copying"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted, or an old .xls"),
        ("a.pptx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted, or an old .ppt"),
        ("a.xlsx", sheet(""), "no cells in it"),
        ("a.xlsx", workbook()[:2000], "truncated or damaged"),
        ("a.pptx", presentation()[:2000], "truncated or damaged"),
    ],
)
def test_what_is_none_of_them_says_why(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        told(tmp_path / name, data)


@pytest.mark.filterwarnings("ignore:Workbook contains no stylesheet")
def test_libraries_read_what_the_tests_make(tmp_path: Path) -> None:
    """So that what is hand-made here is what it is said to be."""
    (tmp_path / "a.xlsx").write_bytes(sheet('<row r="1"><c r="A1"><v>7</v></c></row>'))
    assert openpyxl.load_workbook(tmp_path / "a.xlsx").active["A1"].value == 7
    assert zipfile.ZipFile(io.BytesIO(book({"a.xhtml": "x"}))).testzip() is None


def test_word_document_keeps_its_structure(tmp_path: Path) -> None:
    made = docx.Document()
    made.add_heading("Handbook", 0)
    made.add_heading("Indexes", 1)
    made.add_paragraph("Plain text.")
    made.add_heading("Kinds", 2)
    made.add_paragraph("first", style="List Bullet")
    made.add_paragraph("second", style="List Bullet")
    table = made.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ["Name", "M | ef", "HNSW", "16"], strict=True):
        cell.text = text
    table.cell(1, 1).add_paragraph("to 64")
    inner = table.cell(1, 0).add_table(rows=1, cols=1)
    inner.cell(0, 0).text = "inside"
    made.add_paragraph("After it.")
    made.save(str(tmp_path / "made.docx"))
    text, _, _ = told(tmp_path / "a.docx", (tmp_path / "made.docx").read_bytes())
    assert text == (
        "# Handbook\n\n# Indexes\n\nPlain text.\n\n## Kinds\n\nfirst\n\nsecond\n\n"
        "| Name | M \\| ef |\n| --- | --- |\n| HNSW inside | 16 to 64 |\n\nAfter it."
    )


def test_lists_and_renamed_headings_of_word(tmp_path: Path) -> None:
    styles = (
        f'<w:styles xmlns:w="{WORD}"><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/>'
        '</w:style><w:style w:styleId="Own"><w:name w:val="Own"/><w:pPr><w:outlineLvl w:val="2"/>'
        "</w:pPr></w:style></w:styles>"
    )
    numbered = "<w:numPr><w:ilvl w:val='1'/><w:numId w:val='4'/></w:numPr>"
    body = "".join(
        f"<w:p><w:pPr>{how}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"
        for how, text in [
            ("<w:pStyle w:val='berschrift2'/>", "Zwei"),
            ("<w:pStyle w:val='Own'/>", "Drei"),
            (numbered, "item"),
            ("", "plain"),
        ]
    )
    notes = f'<w:footnotes xmlns:w="{WORD}">{paragraph("A note.")}</w:footnotes>'
    data = zipped(
        {
            "word/document.xml": document_xml(body),
            "word/styles.xml": styles,
            "word/footnotes.xml": notes,
        }
    )
    text, _, _ = told(tmp_path / "a.docx", data)
    assert text == "## Zwei\n\n### Drei\n\n  - item\n\nplain\n\nA note."
