"""Files that attack a reader, or are merely odd: each a name and a function that makes its bytes.

All are small to make and to keep; what they unpack to, or cost a naive reader, is not.
"""

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping

from . import hostile_office

Make = Callable[[], bytes]

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def document_xml(body: str, head: str = "") -> str:
    return f'{head}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


NOISE = " ".join(str(number**9) for number in range(500))
PLAIN = document_xml(paragraph("A plain paragraph."))


def zipped(
    members: Iterable[tuple[str, str | bytes | Iterable[bytes]]],
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """Return an archive; a member may be given in pieces, so that a bomb takes no memory."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as archive:
        for name, content in members:
            with archive.open(name, "w") as member:
                if isinstance(content, str):
                    content = content.encode()
                for piece in [content] if isinstance(content, bytes) else content:
                    member.write(piece)
    return whole.getvalue()


def docx(document: str | bytes | Iterable[bytes] = PLAIN, **others: str | Iterable[bytes]) -> bytes:
    parts = {"core": "docProps/core.xml", "header": "word/header1.xml"}
    return zipped(
        [("word/document.xml", document), *((parts[name], xml) for name, xml in others.items())]
    )


def around(head: str, filling: bytes, megabytes: int, tail: str) -> Iterable[bytes]:
    """Yield XML of many megabytes in pieces."""
    piece = filling * (1_000_000 // len(filling))
    yield head.encode()
    for _ in range(megabytes):
        yield piece
    yield tail.encode()


def word_bomb(filling: bytes, megabytes: int, inside: str = "") -> Iterable[bytes]:
    head, tail = document_xml(f"{inside}|").split("|")
    return around(head, filling, megabytes, tail)


def core(title: str) -> str:
    return f'<c xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></c>'


def core_bomb() -> Iterable[bytes]:
    head, tail = core("|").split("|")
    return around(head, b"T", 300, tail)


def lying_sizes() -> bytes:
    """A member whose sizes in the directory are false."""
    data = bytearray(docx(word_bomb(b"<w:p/>", 1, paragraph("x"))))
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 24, 10)
    return bytes(data)


def wrong_checksum() -> bytes:
    data = bytearray(docx())
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 16, 0xDEADBEEF)
    return bytes(data)


def flagged_as_encrypted() -> bytes:
    data = bytearray(docx())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    return bytes(data)


def overlapping_members() -> bytes:
    """A directory whose 2,000 entries all name the same compressed megabytes."""
    name = b"word/header1.xml"
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = b"".join(word_bomb(b" " * 1000, 20))
    packed = raw.compress(text) + raw.flush()
    common = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0, zlib.crc32(text), len(packed), len(text))
    local = b"PK\x03\x04" + common + struct.pack("<HH", len(name), 0) + name + packed
    directory = b"".join(
        b"PK\x01\x02\x14\x00"
        + common
        + struct.pack("<HHHHHII", len(entry), 0, 0, 0, 0, 0, 0)
        + entry
        for entry in (b"word/header%04d.xml" % number for number in range(2000))
    )
    entry = b"word/document.xml"
    directory += (
        b"PK\x01\x02\x14\x00"
        + common
        + struct.pack("<HHHHHII", len(entry), 0, 0, 0, 0, 0, 0)
        + entry
    )
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2001, 2001, len(directory), len(local), 0)
    return local + directory + end


LAUGHS = "<!DOCTYPE d [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10)
)

ARCHIVES: dict[str, Make] = {
    "bomb of text.docx": lambda: docx(word_bomb(b"<w:p><w:r><w:t>0</w:t></w:r></w:p>", 300)),
    "bomb of paragraphs.docx": lambda: docx(word_bomb(b"<w:p/>", 120, paragraph("x"))),
    "bomb in the title.docx": lambda: docx(core=core_bomb()),
    "bomb in a header.docx": lambda: docx(header=word_bomb(b"<w:p/>", 300)),
    "bomb of overlapping members.docx": overlapping_members,
    "many titles.docx": lambda: docx(core="<dc:title>" * 170),
    "long title.docx": lambda: docx(core=core("T " * 500_000)),
    "sizes that lie.docx": lying_sizes,
    "archive in an archive.docx": lambda: zipped([("inner.zip", zipped([("a.txt", "0" * 9999)]))]),
    "half an archive.docx": lambda: docx(
        document_xml(paragraph(base64.b64encode(bytes(9999)).decode()))
    )[:200],
    "wrong checksum.docx": wrong_checksum,
    "names that climb.docx": lambda: zipped(
        [("../../etc/passwd", "x"), ("/etc/passwd", "x"), ("word/document.xml", PLAIN)]
    ),
    "encrypted archive.docx": flagged_as_encrypted,
    "encrypted office file.docx": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096),
    "no document.docx": lambda: zipped([("[Content_Types].xml", "<Types/>")]),
    "empty archive.docx": lambda: zipped([]),
    "many members.docx": lambda: zipped(
        ((f"word/header{n}.xml", "") for n in range(25_000)), zipfile.ZIP_STORED
    ),
    "document twice.docx": lambda: docx() + docx(),
    "lzma.docx": lambda: zipped([("word/document.xml", PLAIN)], zipfile.ZIP_LZMA),
    "garbage before.docx": lambda: b"MZ" * 5000 + docx(),
    "text.docx": lambda: b"Only text, whatever its name says.",
    "no text.docx": lambda: docx(document_xml("<w:p/>")),
}

XML: dict[str, Make] = {
    "laughs.docx": lambda: docx(document_xml("&a9;", LAUGHS + "]>")),
    "laughs.xml": lambda: f"{LAUGHS}]><d>&a9;</d>".encode(),
    "external entity.docx": lambda: docx(
        document_xml(paragraph("&x;"), '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>')
    ),
    "quadratic entity.docx": lambda: docx(
        document_xml("&a;" * 50_000, f"<!DOCTYPE d [<!ENTITY a '{'x' * 50_000}'>]>")
    ),
    "deep elements.docx": lambda: docx(document_xml("<w:p>" * 100_000 + "</w:p>" * 100_000)),
    "huge attribute.docx": lambda: docx(
        around(f'<w:document xmlns:w="{WORD}" a="', b"x", 90, '"/>')
    ),
    "many attributes.docx": lambda: docx(
        document_xml("<w:p " + " ".join(f'a{n}="1"' for n in range(200_000)) + "/>")
    ),
    "many namespaces.docx": lambda: docx(
        document_xml("".join(f'<w:p xmlns:n{n}="u{n}">' for n in range(200)) + "</w:p>" * 200)
    ),
    "huge name.docx": lambda: docx(around("<", b"n", 20, "/>")),
    "half the XML.docx": lambda: docx(PLAIN[: len(PLAIN) // 2]),
    "UTF-16.docx": lambda: docx(PLAIN.encode("utf-16")),
    "control characters.docx": lambda: docx(document_xml(paragraph("\x01\x02 &#0;"))),
    "surrogate reference.docx": lambda: docx(document_xml(paragraph("&#xD800;"))),
    "unknown encoding.docx": lambda: docx('<?xml version="1.0" encoding="none-such"?>' + PLAIN),
}


def pdf(objects: Mapping[int, bytes], root: int = 1, more: bytes = b"") -> bytes:
    """Return a PDF of numbered objects, its cross-reference table right."""
    out = bytearray(b"%PDF-1.7\n")
    places = {}
    for number, content in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(out)
    size = max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        place = places.get(number)
        out += b"%010d 00000 n \n" % place if place else b"0000000000 65535 f \n"
    out += b"trailer\n<</Size %d/Root %d 0 R%b>>\nstartxref\n%d\n%%%%EOF\n" % (
        *(size, root, more, table),
    )
    return bytes(out)


def stream(data: bytes, extra: bytes = b"", *, packed: bool = False) -> bytes:
    if packed:
        data = zlib.compress(data, 9)
        extra += b"/Filter/FlateDecode"
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (len(data), extra, data)


FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
SHOWN = b"BT /F1 12 Tf 72 700 Td (Some readable text.) Tj ET"


def page_pdf(
    content: bytes = SHOWN,
    *,
    box: bytes = b"0 0 612 792",
    resources: bytes = b"",
    others: Mapping[int, bytes] | None = None,
    more: bytes = b"",
    packed: bool = False,
) -> bytes:
    """Return a PDF of one page."""
    return pdf(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            3: b"<</Type/Page/Parent 2 0 R/MediaBox[%b]/Contents 4 0 R"
            b"/Resources<</Font<</F1 5 0 R>>%b>>>>" % (box, resources),
            4: stream(content, packed=packed),
            5: FONT,
            **(others or {}),
        },
        more=more,
    )


def table_of_itself() -> bytes:
    """A cross-reference table that says to come after itself."""
    made = page_pdf(more=b"/Prev 00000")
    return made.replace(b"/Prev 00000", b"/Prev %05d" % made.index(b"xref\n0"))


def titled_pdf(title: bytes) -> bytes:
    return page_pdf(others={6: b"<</Title %b>>" % title}, more=b"/Info 6 0 R")


def form(content: bytes, resources: bytes = b"") -> bytes:
    return stream(
        content,
        b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</Font<</F1 5 0 R>>%b>>" % resources,
    )


def tree_of_forms() -> bytes:
    """Twelve forms, each drawing the next one ten times."""
    draws = b"/X Do " * 10
    return page_pdf(
        draws + SHOWN,
        resources=b"/XObject<</X 10 0 R>>",
        others={
            number: form(draws + SHOWN, b"/XObject<</X %d 0 R>>" % (number + 1))
            for number in range(10, 22)
        }
        | {22: form(SHOWN)},
    )


def object_stream_bomb() -> bytes:
    """The pages' tree in a compressed object beside a string of 200 MB."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        stream(
            b"2 0 6 40 " + b"<</Type/Pages/Kids[]/Count 0>>".ljust(40) + b"(" + b"x" * 200_000_000,
            b"/Type/ObjStm/N 2/First 9",
            packed=True,
        ),
    ]
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in zip((1, 3), objects, strict=True):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(out)
    rows = [(0, 0, 0), (1, places[0], 0), (2, 3, 0), (1, places[1], 0), (1, table, 0)]
    packed = b"".join(struct.pack(">BIB", *row) for row in rows)
    out += b"4 0 obj\n%b\nendobj\nstartxref\n%d\n%%%%EOF\n" % (
        stream(packed, b"/Type/XRef/Size 5/Root 1 0 R/W[1 4 1]"),
        table,
    )
    return bytes(out)


def encrypted_pdf() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(page_pdf())))
    writer.encrypt(user_password="user", owner_password="owner", algorithm="AES-256")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def surrogates_in_a_font() -> bytes:
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def\n"
        b"1 begincodespacerange <00> <FF> endcodespacerange\n"
        b"1 beginbfchar <53> <D800> endbfchar\nendcmap end end"
    )
    font = FONT[:-2] + b"/ToUnicode 6 0 R>>"
    return page_pdf(others={5: font, 6: stream(cmap)})


PDF: dict[str, Make] = {
    "half.pdf": lambda: page_pdf()[:300],
    "encrypted.pdf": encrypted_pdf,
    "pages in a circle.pdf": lambda: pdf(
        {1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>"}
    ),
    "parents in a circle.pdf": lambda: pdf(
        {
            1: b"<</Type/Catalog/Pages 2 0 R>>",
            2: b"<</Type/Pages/Kids[3 0 R]/Count 1/Parent 3 0 R>>",
            3: b"<</Type/Page/Parent 2 0 R>>",
        }
    ),
    "tables in a circle.pdf": table_of_itself,
    "references in a circle.pdf": lambda: pdf({1: b"1 0 R", 2: b"3 0 R", 3: b"2 0 R"}),
    "form in itself.pdf": lambda: page_pdf(
        b"/X Do " + SHOWN,
        resources=b"/XObject<</X 6 0 R>>",
        others={6: form(b"/X Do", b"/XObject<</X 6 0 R>>")},
    ),
    "tree of forms.pdf": tree_of_forms,
    "huge page.pdf": lambda: page_pdf(box=b"-1e30 -1e30 1e30 99999999999999999999"),
    "bomb of drawing.pdf": lambda: page_pdf(b"q Q " * 15_000_000 + SHOWN, packed=True),
    "bomb twice packed.pdf": lambda: page_pdf(
        others={
            4: stream(
                zlib.compress(zlib.compress(b" " * 200_000_000, 9), 9),
                b"/Filter[/FlateDecode/FlateDecode]",
            )
        }
    ),
    "many strings.pdf": lambda: page_pdf(b"BT /F1 9 Tf " + b"(x) Tj " * 60_000, packed=True),
    "bomb of objects.pdf": object_stream_bomb,
    "number as title.pdf": lambda: titled_pdf(b"42"),
    "dictionary as title.pdf": lambda: titled_pdf(b"<</a[1 2]>>"),
    "dangling title.pdf": lambda: titled_pdf(b"99 0 R"),
    "circular title.pdf": lambda: titled_pdf(b"6 0 R"),
    "title of a megabyte.pdf": lambda: titled_pdf(b"(%b)" % (b"T" * 1_000_000)),
    "surrogates in the title.pdf": lambda: titled_pdf(b"<FEFFD800D8000041>"),
    "surrogates in the text.pdf": surrogates_in_a_font,
    "count that lies.pdf": lambda: page_pdf().replace(b"/Count 1>", b"/Count 999999999>"),
    "deep arrays.pdf": lambda: page_pdf(b"[" * 100_000 + SHOWN),
    "deep objects.pdf": lambda: page_pdf(others={6: b"[" * 100_000}, more=b"/Info 6 0 R"),
    "no pages.pdf": lambda: pdf({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages>>"}),
    "table elsewhere.pdf": lambda: page_pdf().replace(b"startxref\n", b"startxref\n9"),
    "noise.pdf": lambda: b"%PDF-1.7\n" + bytes(range(256)) * 2000 + b"\n%%EOF",
    "many filters.pdf": lambda: page_pdf(
        others={4: stream(SHOWN, b"/Filter[%b]" % (b"/FlateDecode" * 5000))}
    ),
    "length that lies.pdf": lambda: page_pdf().replace(b"/Length 50", b"/Length 99999999"),
}

ENCODINGS: dict[str, Make] = {
    "UTF-16.txt": lambda: "Text".encode("utf-16"),
    "UTF-16 without mark.txt": lambda: "Text".encode("utf-16-le"),
    "UTF-32.txt": lambda: "Text".encode("utf-32"),
    "Latin-1.txt": lambda: "Müller, café".encode("latin-1"),
    "NUL far down.txt": lambda: b"text " * 4000 + b"\0" * 100 + b"more text",
    "mark alone.txt": lambda: b"\xef\xbb\xbf",
    "two marks.txt": lambda: b"\xef\xbb\xbf\xef\xbb\xbfText.",
    "encoded surrogates.txt": lambda: b"a \xed\xa0\x80 b",
    "overlong.txt": lambda: b"a \xc0\xaf b",
    "last characters.txt": lambda: "a \U0010ffff \ufffe \ufdd0 b".encode(),
    "escapes.txt": lambda: b"\x1b]0;title\x07\x1b[2J\x9b31m text".replace(b"\x9b", b"\xc2\x9b"),
    "bidi.txt": lambda: "user\u202e \u2066// admin\u2069 \u2066".encode(),
    "one line.txt": lambda: b"0123456789" * 300_000,
    "base64.txt": lambda: base64.b64encode(zlib.compress(bytes(range(256)) * 9) * 150),
    "punctuation.txt": lambda: b"+/" * 100_000,
    "full stops.txt": lambda: b"." * 150_000,
    "line ends.txt": lambda: b"a" + b"\n" * 2_000_000 + b"b",
    "spaces.txt": lambda: b"a" + b" " * 2_000_000 + b"b",
    "carriage returns.txt": lambda: b"one\rtwo\r" * 1000,
    "combining marks.txt": lambda: ("e" + "\u0301" * 60_000).encode(),
    "Thai.txt": lambda: "ภาษาไทยไม่มีช่องว่างระหว่างคำ".encode() * 1000,
}

HTML: dict[str, Make] = {
    "deep.html": lambda: b"<div>" * 20_000 + b"Deep text." + b"</div>" * 20_000,
    "deep inline.html": lambda: b"<b>" * 100_000 + b"Deep text.",
    "deep quotes.html": lambda: b"<blockquote>" * 150 + b"<p>line</p>" * 1000,
    "deep lists.html": lambda: b"<ul><li>x" * 3000,
    "deep tables.html": lambda: b"<table><tr><td>" * 2000 + b"cell",
    "wide cell.html": lambda: b'<table><tr><td colspan="1000000000">a<tr><td>b<td>c</table>',
    "digits.html": lambda: (
        f'<table><tr><td colspan="{"9" * 5000}">a</table><ol start="{"9" * 5000}"><li>b</ol>'
        f"<h{'9' * 5000}>c</h{'9' * 5000}>"
    ).encode(),
    "odd digits.html": lambda: "<table><tr><td colspan=²>a</table><ol start=½><li>b</ol>".encode(),
    "angles.html": lambda: b"<" * 150_000,
    "many attributes.html": lambda: (
        f"<p {' '.join(f'a{n}=1' for n in range(100_000))}>text</p>".encode()
    ),
    "huge attribute.html": lambda: b'<p title="' + b"x" * 5_000_000 + b'">text</p>',
    "long list.html": lambda: b"<ol>" + b"<li>item</li>" * 15_000,
    "many elements.html": lambda: b"<p>x</p>" * 600_000,
    "many hidden.html": lambda: b"<p>x</p>" * 10_000 + b"<p hidden>y</p>" * 10_000,
    "comment never closed.html": lambda: b"<p>text</p><!-- " + b"x" * 500_000,
    "script never closed.html": lambda: b"<p>text</p><script>" + b"x" * 500_000,
    "spaces.html": lambda: b"<p>a" + b" " * 1_000_000 + b"b</p>",
    "spaces in code.html": lambda: b"<pre>a" + b" \n" * 500_000 + b"b</pre>",
    "spaces as entities.html": lambda: b"<p>a" + b"&#32;" * 200_000 + b"b</p>",
    "surrogate.html": lambda: b"<p>a &#xD800; &#0; &#x110000; b</p>",
    "declared as XML.html": lambda: b'<?xml version="1.0"?><page><p>text</p></page>',
    "processing.html": lambda: b"<p>text</p><?php secret(); ?>",
    "long title.html": lambda: b"<title>" + b"T" * 1_000_000 + b"</title><p>text</p>",
    "picture inside.html": lambda: (
        b'<p>text<img src="data:image/png;base64,' + b"A" * 5_000_000 + b'"></p>'
    ),
    "closing tags.html": lambda: b"</p></div></b>" * 100_000 + b"text",
}

MARKDOWN: dict[str, Make] = {
    "heading.md": lambda: b"# " + b"#" * 100_000 + b"x",
    "heading of spaces.md": lambda: b"# a" + b" #" * 50_000 + b" x",
    "front matter never closed.md": lambda: b"---\ntitle: " + b" x" * 50_000 + b"\n--- x" * 9000,
    "rules.md": lambda: b"---\n" + (b"---" + b" " * 300 + b"x\n") * 1000,
    "fences.md": lambda: b"```\n~~~\n" * 6_000,
    "fence never closed.md": lambda: b"```" * 20_000 + b"\ntext",
    "quotes.md": lambda: b">" * 100_000 + b" text",
    "brackets.md": lambda: b"[" * 30_000 + b"](" * 15_000,
    "stars.md": lambda: b"*" * 30_000 + b"a" + b"_" * 30_000,
    "title of a megabyte.md": lambda: b"# " + b"T" * 1_000_000 + b"\ntext",
}

JSON: dict[str, Make] = {
    "deep lists.json": lambda: b"[" * 100_000 + b"]" * 100_000,
    "deep objects.json": lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep enough.json": lambda: b'{"a":' * 900 + b"1" + b"}" * 900,
    "long key.json": lambda: json.dumps({"k" * 1_000_000: list(range(10_000))}).encode(),
    "surrogate.json": lambda: rb'{"a": "x \ud800 y", "\udfff": "z \ud83d\ude00"}',
    "many digits.json": lambda: b'{"a": ' + b"9" * 5000 + b"}",
    "not numbers.json": lambda: b'{"a": NaN, "b": -Infinity, "c": 1e999}',
    "same keys.json": lambda: b'{"a": 1, "a": 2}',
    "mark.json": lambda: b'\xef\xbb\xbf{"a": 1}',
    "NUL.json": lambda: rb'{"a": "x\u0000y"}',
    "bad line.jsonl": lambda: b'{"a": 1}\n{"a": \n{"a": 3}',
    "many lists.json": lambda: b"[" + b"[]," * 500_000 + b"[]]",
    "many objects.json": lambda: b"[" + b'{"":0},' * 1_500_000 + b"{}]",
    "many numbers.json": lambda: b"[" + b"1," * 9_000_000 + b"1]",
}

CSV: dict[str, Make] = {
    "huge field.csv": lambda: b"a,b\n1," + b"word " * 100_000,
    "long column name.csv": lambda: b"c" * 100_000 + b"\n" + b"1\n" * 5_000,
    "many columns.csv": lambda: b"c," * 1_000_000 + b"\n" + b"1,2\n" * 5_000,
    "quote never closed.csv": lambda: b'a,b\n"1,2\n' + b"3,4\n" * 30_000,
    "sniffer.csv": lambda: b'"a",' * 22_500,
    "sniffer of quotes.csv": lambda: b"'\"" * 45_000,
    "NUL.csv": lambda: b"a,b\n" + b"1,2\n" * 3000 + b"\0,\0\n",
    "delimiters.csv": lambda: b"," * 300_000 + b"x",
    "line ends.csv": lambda: b"a,b\r1,2\r\n3,4\n5,6",
}


def notebook(cells: object, version: int = 4, **more: object) -> bytes:
    whole = {"nbformat": version, "nbformat_minor": 4, "metadata": {}, "cells": cells, **more}
    return json.dumps(whole).encode()


def cell(source: object = "# Title\ntext", **more: object) -> dict[str, object]:
    return {"cell_type": "markdown", "metadata": {}, "source": source, **more}


def code(outputs: object) -> dict[str, object]:
    return cell("print(1)", cell_type="code", execution_count=1, outputs=outputs)


NOTEBOOKS: dict[str, Make] = {
    "version 99.ipynb": lambda: notebook([cell()], 99),
    "version of text.ipynb": lambda: notebook([cell()], "four"),  # type: ignore[arg-type]
    "version 3.ipynb": lambda: json.dumps(
        {
            "nbformat": 3,
            "nbformat_minor": 0,
            "metadata": {"name": "x"},
            "worksheets": [{"metadata": {}, "cells": [cell("text")]}],
        }
    ).encode(),
    "huge outputs.ipynb": lambda: notebook(
        [code([{"output_type": "stream", "name": "stdout", "text": "x" * 8_000_000}])]
    ),
    "surrogate.ipynb": lambda: notebook([cell("x \ud800 y")]),
    "no cells.ipynb": lambda: notebook(None),
    "cells nowhere.ipynb": lambda: b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "list.ipynb": lambda: b"[1, 2]",
    "many cells.ipynb": lambda: notebook([cell(f"text {n}") for n in range(20_000)]),
    "odd sources.ipynb": lambda: notebook([cell(5), cell(None), cell({}), cell("text")]),
    "odd cells.ipynb": lambda: notebook([1, "x", None]),
    "deep metadata.ipynb": lambda: notebook([cell()]).replace(
        b'"metadata": {}', b'"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000, 1
    ),
}

NAMES = {
    "new\nline  [1] forged.md": b"text",
    "escape \x1b[2J\x1b]0;x\x07.md": b"text",
    "bidi \u202egpj.md": b"text",
    "\u00fc" * 126 + ".md": b"text",
    "-rf.md": b"text",
    " spaces .md": b"text",
    "quote\"'`$(x).md": b"text",
    "a\\b.md": b"text",
}

KINDS: dict[str, Make] = {
    **ARCHIVES,
    **{f"xml/{name}": make for name, make in XML.items()},
    **PDF,
    **{f"encodings/{name}": make for name, make in ENCODINGS.items()},
    **{f"html/{name}": make for name, make in HTML.items()},
    **MARKDOWN,
    **JSON,
    **CSV,
    **NOTEBOOKS,
    **hostile_office.KINDS,
}

SLOW = {
    *("bomb of text.docx", "bomb in a header.docx", "html/many elements.html"),
    *("bomb of overlapping members.docx", "xml/huge attribute.docx", "many strings.pdf"),
    *hostile_office.SLOW,
}
"""More than three seconds to make or to refuse."""
