"""OpenDocument files, and Excel's old workbooks."""

import io
import zipfile
from pathlib import Path

import pytest
import xlwt

from rag_app.documents.file_types import UnreadableFileError

from .test_mail_and_rtf import told

_SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "draw", "presentation", "meta")
)


def odf(body: str, title: str = "", more: dict[str, str] | None = None) -> bytes:
    meta = f'<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></m>'
    members = {
        "content.xml": f"<office:document-content {_SPACES}><office:body>{body}</office:body>"
        "</office:document-content>",
        "meta.xml": meta,
        **(more or {}),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def p(text: str) -> str:
    return f"<text:p>{text}</text:p>"


TEXT = (
    '<office:text><text:h text:outline-level="2">Care\n of   pumps</text:h>'
    + p(
        "Oil<text:s text:c='2'/>it<text:note><text:note-body>"
        + p("Weekly.")
        + "</text:note-body></text:note> well."
    )
    + "<text:tracked-changes>"
    + p("deleted")
    + "</text:tracked-changes>"
    + p("Seen<office:annotation>" + p("Really?") + "</office:annotation> by all.")
    + "<text:list><text:list-item>"
    + p("One")
    + "<text:list><text:list-item>"
    + p("Inner")
    + "</text:list-item></text:list></text:list-item></text:list>"
    '<table:table><table:table-row><table:table-cell table:number-columns-spanned="2">'
    + p("Both")
    + "</table:table-cell><table:covered-table-cell/></table:table-row>"
    '<table:table-row><table:table-cell table:number-rows-spanned="2">'
    + p("A|B")
    + "</table:table-cell><table:table-cell>"
    + p("1")
    + "</table:table-cell></table:table-row>"
    "<table:table-row><table:covered-table-cell/><table:table-cell>"
    + p("2")
    + "</table:table-cell></table:table-row></table:table></office:text>"
)


def test_text_document_is_markdown(tmp_path: Path) -> None:
    text, title, warned = told(tmp_path / "a.odt", odf(TEXT, "Manual"))
    assert (title, warned) == ("Manual", [])
    assert text == (
        "## Care of pumps\n\nOil  it well.\n\n[Note: Weekly.]\n\nSeen by all.\n\n"
        "[Comment: Really?]\n\n- One\n\n  - Inner\n\n"
        "| Both | Both |\n| --- | --- |\n| A\\|B | 1 |\n| A\\|B | 2 |"
    )


def test_sheets_are_rows_as_shown(tmp_path: Path) -> None:
    def cell(text: str, kind: str = "string", more: str = "") -> str:
        value = p(text) if text else ""
        return f'<table:table-cell office:value-type="{kind}" {more}>{value}</table:table-cell>'

    rows = [
        cell("Item") + cell("Due") + cell("Sum"),
        cell("Screws") + cell("25.11.26", "date") + cell("1.234,50 €", "currency"),
        cell("", more='table:number-columns-repeated="16000"'),
        cell("Nuts") + cell("") + cell("2", "float"),
    ]
    lines = [f"<table:table-row>{row}</table:table-row>" for row in rows]
    lines.append(
        '<table:table-row table:number-rows-repeated="1048000">' + cell("") + "</table:table-row>"
    )
    sheet = f'<table:table table:name="Orders">{"".join(lines)}</table:table>'
    body = f"<office:spreadsheet>{sheet}{sheet.replace('Orders', 'More')}</office:spreadsheet>"
    text, _, _ = told(tmp_path / "a.ods", odf(body))
    orders, more = text.split("\f")
    assert orders == (
        "## Orders\n\nItem, Due, Sum\nItem: Screws, Due: 25.11.26, Sum: 1.234,50 €\n"
        "Item: Nuts, Sum: 2\n"
    )
    assert more.startswith("## More")


def test_presentation_is_its_slides(tmp_path: Path) -> None:
    def slide(title: str, text: str, notes: str) -> str:
        return (
            f'<draw:page><draw:frame presentation:class="title">{p(title)}</draw:frame>'
            f"<draw:frame>{p(text)}</draw:frame>"
            f"<presentation:notes><draw:frame>{p(notes)}</draw:frame></presentation:notes>"
            "</draw:page>"
        )

    body = f"<office:presentation>{slide('Results', 'Grew', 'Smile')}{slide('End', 'x', 'y')}"
    text, _, _ = told(tmp_path / "a.odp", odf(body + "</office:presentation>"))
    assert text.split("\f")[0] == "## Results\n\nGrew\n\nNotes: Smile\n\n"
    assert text.count("\f") == 1


def workbook(encoding: str = "utf-8") -> bytes:
    book = xlwt.Workbook(encoding=encoding)
    sheet = book.add_sheet("Kosten")
    money = xlwt.easyxf(num_format_str="#,##0.00")
    date = xlwt.easyxf(num_format_str="dd.mm.yyyy")
    for column, name in enumerate(["Region", "Sum", "Due"]):
        sheet.write(0, column, name)
    sheet.write_merge(1, 2, 0, 0, "Süd")
    for row in (1, 2):
        sheet.write(row, 1, 1234.5 * row, money)
        sheet.write(row, 2, 46351, date)
    book.add_sheet("Empty")
    hidden = book.add_sheet("Hidden")
    hidden.write(0, 0, "secret")
    hidden.visibility = 1
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_old_workbook_is_its_rows(tmp_path: Path) -> None:
    text, _, warned = told(tmp_path / "a.xls", workbook())
    assert warned == []
    assert text.strip("\f") == (
        "## Kosten\n\nRegion, Sum, Due\nRegion: Süd, Sum: 1,234.50, Due: 25.11.2026\n"
        "Region: Süd, Sum: 2,469.00, Due: 25.11.2026\n"
    )


ENCRYPTED = {"META-INF/manifest.xml": "<manifest:encryption-data/>"}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.odt", odf("", more=ENCRYPTED), "encrypted"),
        ("a.ods", odf("<office:spreadsheet/>"), "no cells in it"),
        ("a.odp", odf("<office:presentation/>"), "no slides in it"),
        ("a.odt", odf("<office:text/>"), "no text in it"),
        ("a.odt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "no text document: it is an Office file"),
        ("a.ods", b"PK\x03\x04", "truncated or damaged"),
        ("a.xls", b"text", "no workbook that can be read"),
        ("a.xls", workbook()[:900], "no workbook that can be read|truncated or damaged"),
        ("a.odt", odf("<text:p>" * 5000), "nested more than"),
    ],
)
def test_what_is_none_says_why(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        told(tmp_path / name, data)
