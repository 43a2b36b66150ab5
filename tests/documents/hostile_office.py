"""Hostile and odd mails and office files: as `hostile`, whose `KINDS` has them."""

import base64
import io
import zipfile
from collections.abc import Callable, Mapping

Make = Callable[[], bytes]


def attached(name: str, data: bytes) -> bytes:
    """Return a mail with one file."""
    return (
        b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Disposition: attachment; filename=%b\nContent-Transfer-Encoding: base64\n\n"
        % name.encode()
        + base64.encodebytes(data)
        + b"--b--\n"
    )


def deep_parts(depth: int) -> bytes:
    mail = b"Subject: x\n"
    for level in range(depth):
        mail += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
    return mail + b"\ntext"


MAILS: dict[str, Make] = {
    "many parts.eml": lambda: (
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 15_000
    ),
    "more parts.eml": lambda: (
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 2_000_000
    ),
    "many headers.eml": lambda: b"Subject: x\n" + b"a: b\n" * 900_000 + b"\ntext",
    "more headers.eml": lambda: b"Subject: x\n" + b"a: b\n" * 5_000_000 + b"\ntext",
    "deep parts.eml": lambda: deep_parts(2000),
    "long header.eml": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 500_000 + b"\n\ntext",
    "folded header.eml": lambda: b"Subject: a" + b"\n b" * 400_000 + b"\n\ntext",
    "odd charset.eml": lambda: b"Subject: x\nContent-Type: text/plain; charset=none-such\n\ntext",
    "odd encoding.eml": lambda: (
        b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!!text"
    ),
    "no end.eml": lambda: b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext",
    "no headers.eml": lambda: b"text",
    "escapes in the subject.eml": lambda: b"Subject: =?utf-8?b?G10wO3gH4oCu?=\n\ntext",
    "bomb attached.eml": lambda: attached("a.html", b"<p>x</p>" * 600_000),
    "climbing name.eml": lambda: attached("../../../etc/passwd", b"text"),
}

RTF: dict[str, Make] = {
    "braces.rtf": lambda: b"{\\rtf1 " + b"{" * 2_000_000,
    "closed.rtf": lambda: b"{\\rtf1 x" + b"}" * 2_000_000,
    "hex.rtf": lambda: b"{\\rtf1 " + b"\\'e9" * 500_000 + b"}",
    "picture.rtf": lambda: b"{\\rtf1 text{\\pict " + b"0f\n" * 4_000_000 + b"}}",
    "binary that lies.rtf": lambda: b"{\\rtf1 text \\bin999999999 x}",
    "links.rtf": lambda: b"{\\rtf1 " + b'{\\field{\\*\\fldinst{HYPERLINK "' * 100_000,
    "fonts.rtf": lambda: b"{\\rtf1{\\fonttbl" + b"{\\f1\\fcharset204 x;}" * 100_000 + b"}text}",
    "numbers.rtf": lambda: b"{\\rtf1 \\u-999999999? \\ansicpg9999999 \\uc99999 \\f-1 x y}",
    "half.rtf": lambda: b"{\\rtf1 text \\'e",
    "no RTF.rtf": lambda: b"text",
}


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return whole.getvalue()


def related(**targets: str) -> str:
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return (
        f'<Relationships xmlns="{space}">'
        + "".join(
            f'<Relationship Id="{id_}" Type="{OFFICE}/{target.rsplit("/")[-1].rstrip("1.xml")}" '
            f'Target="{target}"/>'
            for id_, target in targets.items()
        )
        + "</Relationships>"
    )


def sheet(rows: str, styles: str = "<styleSheet/>", book: str = "", strings: str = "") -> bytes:
    """Return a workbook of one sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return zipped(
        {
            "[Content_Types].xml": (
                '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
                '<Default Extension="rels" ContentType='
                '"application/vnd.openxmlformats-package.relationships+xml"/>'
                f'<Override PartName="/xl/workbook.xml" ContentType="{CONTENT}.sheet.main+xml"/>'
                f'<Override PartName="/xl/worksheets/sheet1.xml" '
                f'ContentType="{CONTENT}.worksheet+xml"/></Types>'
            ),
            "_rels/.rels": related(r="xl/workbook.xml").replace("/workbook", "/officeDocument", 1),
            "xl/workbook.xml": (
                f'<workbook xmlns="{main}" xmlns:r="{OFFICE}"><workbookPr {book}/><sheets>'
                '<sheet name="One" sheetId="1" r:id="a"/></sheets></workbook>'
            ),
            "xl/_rels/workbook.xml.rels": related(a="worksheets/sheet1.xml").replace(
                '/sheet"', '/worksheet"'
            ),
            "xl/styles.xml": styles.replace("<styleSheet", f'<styleSheet xmlns="{main}"'),
            "xl/sharedStrings.xml": f'<sst xmlns="{main}">{strings}</sst>',
            "xl/worksheets/sheet1.xml": (
                f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
            ),
        }
    )


def book(chapters: Mapping[str, str], more: str = "") -> bytes:
    """Return an e-book whose chapters are read in the order of their names."""
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in chapters
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in sorted(chapters))
    head = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": (
                '<container><rootfile full-path="text/book.opf"/></container>'
            ),
            "text/book.opf": (
                '<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
                f"<dc:title>A book</dc:title></metadata><manifest>{items}{more}</manifest>"
                f"<spine>{order}</spine></package>"
            ),
            **{f"text/{name}": f"{head}{body}</body></html>" for name, body in chapters.items()},
        }
    )


def slides(slide: str, number: int = 1) -> bytes:
    """Return a presentation that shows one slide, as often as asked."""
    return zipped(
        {
            "ppt/presentation.xml": (
                f'<p xmlns:r="{OFFICE}">' + '<sldId id="1" r:id="a"/>' * number + "</p>"
            ),
            "ppt/_rels/presentation.xml.rels": related(a="slides/slide1.xml"),
            "ppt/slides/slide1.xml": f"<sld>{slide}</sld>",
            "ppt/slides/_rels/slide1.xml.rels": related(a="../notesSlides/notesSlide1.xml"),
        }
    )


OFFICE_FILES: dict[str, Make] = {
    "bomb of cells.xlsx": lambda: sheet("<row>" + "<c/>" * 6_000_000 + "</row>"),
    "bomb of rows.xlsx": lambda: sheet("<row><c><v>1</v></c></row>" * 1_000_000),
    "bomb of strings.xlsx": lambda: sheet("", strings="<si/>" * 5_000_000),
    "same string.xlsx": lambda: sheet(
        '<row><c t="s"><v>0</v></c></row>' * 200_000, strings=f"<si><t>{'x' * 30_000}</t></si>"
    ),
    "cell far away.xlsx": lambda: sheet('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
    "cell nowhere.xlsx": lambda: sheet(
        '<row><c r="ZZZZZZ9"><v>1</v></c><c r="²"><v>2</v></c></row>'
    ),
    "string nowhere.xlsx": lambda: sheet('<row><c t="s"><v>-1</v></c><c t="s"><v>9</v></c></row>'),
    "no sheet.xlsx": lambda: zipped({"xl/workbook.xml": "<workbook/>"}),
    "deep.xlsx": lambda: sheet("<row>" * 5000),
    "laughs.xlsx": lambda: zipped(
        {"xl/workbook.xml": '<!DOCTYPE d [<!ENTITY a "ha">]><workbook>&a;</workbook>'}
    ),
    "many slides.pptx": lambda: slides("<sp><p><t>text</t></p></sp>", 20_000),
    "bomb of text.pptx": lambda: slides("<sp><p><t>text</t></p></sp>" * 1_000_000),
    "bomb of cells.pptx": lambda: slides("<tbl><tr>" + "<tc/>" * 4_000_000 + "</tr></tbl>"),
    "slide in itself.pptx": lambda: slides("<sp>" * 900 + "<t>text</t>" + "</sp>" * 900),
    "no slides.pptx": lambda: zipped({"ppt/presentation.xml": "<p/>"}),
    "bomb.epub": lambda: book({f"{n}.xhtml": "<p>x</p>" * 200_000 for n in range(9)}),
    "climbing.epub": lambda: book(
        {"a.xhtml": "text"}, '<item id="b" href="../../../etc/passwd" media-type="text/html"/>'
    ),
    "no chapters.epub": lambda: book({}),
    "odd bytes.epub": lambda: book({"a.xhtml": "text \x00 \ud7ff \x1b[2J"}),
}

KINDS = MAILS | RTF | OFFICE_FILES

SLOW = {
    *("bomb attached.eml", "bomb.epub", "bomb of cells.xlsx", "bomb of rows.xlsx"),
    *("bomb of strings.xlsx", "bomb of text.pptx", "bomb of cells.pptx", "many slides.pptx"),
}
"""More than three seconds to make or to refuse."""
