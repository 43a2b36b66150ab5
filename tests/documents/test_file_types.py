"""What each type of file becomes, and the files that cannot be read."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import nbformat
import pytest
from fpdf import FPDF
from llama_index.core.schema import Document
from pypdf import PdfReader, PdfWriter

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import PAGE_BREAK, READERS, Budget, UnreadableFileError, limits
from rag_app.documents.file_types.text import TextReader
from rag_app.documents.read import read

Make = Callable[[Path], None]


def document_of(name: str, content: str | bytes) -> Document:
    """Read a file of this name and content as an ingest does."""
    file = Path(name).absolute()
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(SourceFile(file.name, file.parent), DocumentsSection())


def reason_for(name: str, content: str | bytes) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        document_of(name, content)
    return str(caught.value)


def pdf_bytes(*pages: str, title: str = "") -> bytes:
    pdf = FPDF()
    pdf.set_font("helvetica", size=12)
    if title:
        pdf.set_title(title)
    for page in pages:
        pdf.add_page()
        pdf.multi_cell(0, 8, page)
    return bytes(pdf.output())


def docx_bytes(*paragraphs: str, title: str = "", table: tuple[str, ...] = ()) -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table:
        row = document.add_table(rows=1, cols=len(table)).rows[0]
        for cell, text in zip(row.cells, table, strict=True):
            cell.text = text
    file = Path("made.docx")
    document.save(str(file))
    return file.read_bytes()


def notebook_text() -> str:
    notebook = nbformat.v4.new_notebook()
    code = nbformat.v4.new_code_cell("print('hello')")
    code.outputs = [nbformat.v4.new_output("stream", text="OUTPUT\n")]
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# A notebook\nOn indexes."),
        code,
        nbformat.v4.new_code_cell("   "),
    ]
    return str(nbformat.writes(notebook))


# --- metadata ------------------------------------------------------------------------------------


def test_document_carries_metadata_and_hides_it_from_models(here: Path) -> None:
    folder = here / "a/b"
    folder.mkdir(parents=True)
    (folder / "page.md").write_text("# Title\nText.")
    document = read(SourceFile("b/page.md", here / "a"), DocumentsSection())
    metadata = dict(document.metadata)
    assert metadata.pop("modified")[:2] == "20"
    assert metadata.pop("root") == str(here / "a")
    assert len(metadata.pop("content_hash")) == 32
    assert metadata == {
        "title": "Title",
        "path": "b/page.md",
        "file_name": "page.md",
        "type": "markdown",
        "size": 13,
    }
    for hidden in (
        document.excluded_embed_metadata_keys,
        document.excluded_llm_metadata_keys,
    ):
        assert set(hidden) == set(document.metadata)


def test_modification_time_is_utc(here: Path) -> None:
    import os

    (here / "x.txt").write_text("text")
    os.utime(here / "x.txt", (1_700_000_000, 1_700_000_000))
    document = read(SourceFile("x.txt", here), DocumentsSection())
    assert document.metadata["modified"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.md", "markdown"),
        ("a.MD", "markdown"),
        ("a.htm", "html"),
        ("a.csv", "csv"),
        ("a.tsv", "csv"),
        ("a.txt", "text"),
        ("a.rst", "rst"),
        ("README", "text"),
        ("a.py", "code"),
        ("a.toml", "code"),
    ],
)
def test_type_is_told_by_the_suffix(name: str, kind: str) -> None:
    assert document_of(name, "some text").metadata["type"] == kind


# --- each type -----------------------------------------------------------------------------------


def test_text_is_as_it_is_and_titled_by_its_name() -> None:
    document = document_of("notes.txt", "One.\n\nTwo.\n")
    assert document.text == "One.\n\nTwo.\n"
    assert document.metadata["title"] == "notes"


def test_byte_order_mark_is_no_text() -> None:
    assert document_of("a.txt", b"\xef\xbb\xbfText.").text == "Text."


def test_source_code_is_as_it_is() -> None:
    code = 'def f(x):\n    """Say hello."""\n    return {"x": x}\n'
    assert document_of("f.py", code).text == code


def test_markdown_loses_its_front_matter_and_gives_its_title() -> None:
    text = '---\nid: x.md\ntitle: "In-memory Index"\n---\n# Heading\n\nText.\n'
    document = document_of("a.md", text)
    assert document.text == "# Heading\n\nText.\n"
    assert document.metadata["title"] == "In-memory Index"


def test_markdown_front_matter_with_windows_line_ends() -> None:
    document = document_of("a.md", b"---\r\ntitle: Windows\r\n---\r\nText.\r\n")
    assert document.text == "Text.\n"
    assert document.metadata["title"] == "Windows"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# First #\n\n# Second\n", "First"),
        ("---\ntitle: Say 'hi'\n---\nText.\n", "Say 'hi'"),
        ("---\ntitle: 'It''s'\n---\nText.\n", "It''s"),
        ("~~~\n# never closed", "a"),
        ("No heading here, only #hash.\n", "a"),
        ("---\nid: x\n---\n# Heading\n", "Heading"),
        ("```sh\n# a comment\n```\n\n# Real title\n", "Real title"),
        ("---\ntitle: ''\n---\n# Heading\n", "Heading"),
    ],
)
def test_markdown_title(text: str, title: str) -> None:
    assert document_of("a.md", text).metadata["title"] == title


def test_a_markdown_rule_is_not_front_matter() -> None:
    text = "Intro.\n\n---\ntitle: no\n---\nText.\n"
    assert document_of("a.md", text).text == text


PAGE = """<!DOCTYPE html>
<html><head><title>Site: indexes</title><style>p {color: red}</style></head>
<body>
<nav><a href="/">Home</a></nav>
<header>Site header</header>
<div role="navigation">Breadcrumbs</div>
<main>
<!-- a comment -->
<h1>In-memory <em>index</em></h1>
<button>Copy page</button>
<svg viewBox="0 0 1 1"><title>Icon title</title><path d="M0"/><text>drawn</text></svg>
<p>HNSW is a <a href="x.html">graph</a> index; use <code>M</code> &amp; <b>ef</b>, 2*3*4.</p>
<h2>Parameters</h2>
<ul><li>One</li><li>Two
  <table><tr><th>Parameter</th><th>Range</th></tr><tr><td>M</td><td>[2, 2048]</td></tr></table>
</li></ul>
<pre><code class="language-python">index = {
    "index_type": "HNSW",
}</code></pre>
<script>var tracking = 1;</script>
<form><input value="typed"><select><option>chosen</option></select></form>
<p hidden>Hidden text</p>
<img src="data:image/png;base64,AAAA" alt="Picture">
<aside>Was this page helpful?</aside>
<template><p>Not shown</p></template>
<article><header><h3>Article head</h3></header><p>Article text.</p></article>
<footer>Edit this page</footer>
</main>
<footer>Copyright</footer>
</body></html>
"""


def test_html_keeps_headings_tables_and_code() -> None:
    document = document_of("a.html", PAGE)
    assert document.metadata["title"] == "In-memory index"
    assert document.text.startswith("# In-memory *index*")
    assert "## Parameters" in document.text
    assert "HNSW is a graph index; use `M` & **ef**, 2*3*4." in document.text
    assert "| Parameter | Range |" in document.text
    assert "| M | [2, 2048] |" in document.text
    assert '```python\nindex = {\n    "index_type": "HNSW",\n}\n```' in document.text
    assert "Article head" in document.text
    assert "Article text." in document.text


@pytest.mark.parametrize(
    "noise",
    [
        *("Home", "Site header", "Breadcrumbs", "a comment", "Copy page", "svg", "Icon title"),
        *("drawn", "tracking", "typed", "chosen", "Hidden text", "base64", "helpful", "Not shown"),
        *("Edit this page", "Copyright", "color: red", "href", "x.html"),
    ],
)
def test_html_leaves_out_what_is_around(noise: str) -> None:
    assert noise not in document_of("a.html", PAGE).text


def test_html_without_main_or_heading_is_read_from_its_body() -> None:
    page = (
        "<html><head><title>The  title</title></head><body><nav>N</nav><p>Text.</p></body></html>"
    )
    document = document_of("a.html", page)
    assert (document.text, document.metadata["title"]) == ("Text.", "The title")


def test_html_fragment_is_read() -> None:
    assert document_of("a.html", "<p>Only a <i>fragment</i>").text == "Only a *fragment*"


def test_pdf_gives_its_pages_and_title() -> None:
    document = document_of("a.pdf", pdf_bytes("First page.", "Second page.", title="A report"))
    assert document.text.split(PAGE_BREAK) == ["First page.", "Second page."]
    assert document.metadata["title"] == "A report"
    assert document.metadata["type"] == "pdf"


def test_pdf_with_an_empty_owner_password_is_read() -> None:
    writer = PdfWriter(clone_from=pdf_reader(pdf_bytes("Readable.")))
    writer.encrypt(user_password="", owner_password="owner", algorithm="AES-256")
    writer.write("made.pdf")
    assert document_of("a.pdf", Path("made.pdf").read_bytes()).text == "Readable."


def pdf_reader(data: bytes) -> PdfReader:
    Path("source.pdf").write_bytes(data)
    return PdfReader("source.pdf")


def test_docx_gives_paragraphs_tables_and_title() -> None:
    data = docx_bytes("First paragraph.", "Zweiter Absatz.", title="Title", table=("M", "16"))
    document = document_of("a.docx", data)
    for part in ("First paragraph.", "Zweiter Absatz.", "M", "16"):
        assert part in document.text
    assert document.metadata["title"] == "Title"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_rows_say_what_their_values_mean(delimiter: str) -> None:
    rows = [["name", "dimension"], ["MiniLM", "384"], ["BGE, large", "1024"], ["unknown", ""]]
    text = "\n".join(delimiter.join(f'"{value}"' for value in row) for row in rows)
    assert document_of("a.csv", text).text == (
        "name: MiniLM, dimension: 384\nname: BGE, large, dimension: 1024\nname: unknown"
    )


def test_csv_cell_with_a_line_break_stays_one_row() -> None:
    text = document_of("a.csv", 'name,note\nA,"one\ntwo"\nB,three\n').text
    assert text == "name: A, note: one\ntwo\nname: B, note: three"


def test_csv_may_double_its_quotes_far_down() -> None:
    text = '"name","note"\n' + '"A","x"\n' * 30 + '"B","say ""hi"", twice"\n'
    assert document_of("a.csv", text).text.endswith('name: B, note: say "hi", twice')


def test_csv_may_hold_form_feeds_and_empty_rows() -> None:
    text = "name,note\nA,one\x0ctwo\x85three\n,\n\nB,four\n"
    assert (
        document_of("a.csv", text).text == "name: A, note: one\x0ctwo\x85three\nname: B, note: four"
    )


def test_csv_of_a_header_alone_is_its_header() -> None:
    assert document_of("a.csv", "name,dimension\n").text == "name, dimension"


def test_csv_cells_beyond_the_header_are_kept() -> None:
    assert "extra" in document_of("a.csv", "name,dimension\nMiniLM,384,extra\n").text


def test_json_values_stand_behind_their_keys() -> None:
    value = [{"name": "M", "range": {"low": 2, "tags": ["graph", None, True]}}, {"name": "ef"}]
    assert document_of("a.json", json.dumps(value)).text == (
        "name: M\nrange low: 2\nrange tags: graph\nrange tags: None\nrange tags: True\n\nname: ef"
    )


def test_json_text_is_not_escaped() -> None:
    assert document_of("a.json", '{"name": "\\u00fcber \\"x\\""}').text == 'name: über "x"'


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson"])
def test_json_lines_are_records(suffix: str) -> None:
    assert document_of(f"a.{suffix}", '{"a": 1}\n\n{"a": 2}\n').text == "a: 1\n\na: 2"


def test_notebook_title_is_no_comment() -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("# a comment"),
        nbformat.v4.new_markdown_cell("# Title"),
    ]
    assert document_of("a.ipynb", nbformat.writes(notebook)).metadata["title"] == "Title"


def test_json_lines_may_hold_line_separators_of_unicode() -> None:
    assert document_of("a.jsonl", '{"a": "x\u2028y\x85z"}\n').text == "a: x\u2028y\x85z"


def test_notebook_gives_cells_without_outputs() -> None:
    document = document_of("a.ipynb", notebook_text())
    assert document.text == "# A notebook\nOn indexes.\n\n```\nprint('hello')\n```"
    assert document.metadata["title"] == "A notebook"


# --- files that cannot be read -------------------------------------------------------------------


def encrypted_pdf() -> bytes:
    writer = PdfWriter(clone_from=pdf_reader(pdf_bytes("Secret.")))
    writer.encrypt(user_password="user", owner_password="owner", algorithm="AES-256")
    writer.write("made.pdf")
    return Path("made.pdf").read_bytes()


def empty_pdf() -> bytes:
    pdf = FPDF()
    pdf.add_page()
    return bytes(pdf.output())


def docx_without_text() -> bytes:
    return docx_bytes()


BAD: list[tuple[str, str, Callable[[], bytes], str]] = [
    ("empty", "a.txt", lambda: b"", "empty"),
    ("white space", "a.md", lambda: b" \n\t\r\n ", "empty"),
    ("byte order mark alone", "a.txt", lambda: b"\xef\xbb\xbf \n", "no text in it"),
    ("front matter alone", "a.md", lambda: b"---\ntitle: x\n---\n", "no text in it"),
    ("HTML without content", "a.html", lambda: b"<nav>Home</nav>", "no text in it"),
    ("empty JSON", "a.json", lambda: b"[]", "no text in it"),
    ("binary", "a.bin", lambda: b"\x7fELF\x00\x01\x02", "binary: no reader for .bin"),
    ("binary without suffix", "tool", lambda: b"\x00\x01", "binary: no reader for files without"),
    ("binary named as text", "a.txt", lambda: b"PNG\x00\x00", "binary"),
    ("no text", "a.txt", lambda: bytes(range(1, 256)) * 9, "not UTF-8 (byte 0x80 at 127), nor"),
    ("encrypted PDF", "a.pdf", encrypted_pdf, "encrypted: it asks for a password"),
    ("PDF of pictures", "a.pdf", empty_pdf, "no text in it, but scanned pages: OCR would read it"),
    ("half a PDF", "a.pdf", lambda: pdf_bytes("Text.")[:400], "truncated or damaged"),
    ("text named as PDF", "a.pdf", lambda: b"not a PDF", "truncated or damaged"),
    (
        "damaged PDF",
        "a.pdf",
        lambda: b"%PDF-1.7\n" + bytes(range(256)) * 20 + b"\n%%EOF",
        "truncated or damaged",
    ),
    (
        "password-protected DOCX",
        "a.docx",
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 99,
        "encry",
    ),
    ("half a DOCX", "a.docx", lambda: docx_bytes("Text.")[:2000], "truncated or damaged"),
    ("DOCX without text", "a.docx", docx_without_text, "no text in it"),
    ("half a JSON", "a.json", lambda: b'{"a": [1, 2', "truncated or damaged: Expecting"),
    ("half JSON lines", "a.jsonl", lambda: b'{"a": 1}\n{"a": ', "truncated or damaged: "),
    ("half a notebook", "a.ipynb", lambda: notebook_text()[:90].encode(), "truncated or damaged"),
    ("JSON named as notebook", "a.ipynb", lambda: b'{"a": 1}', "not a notebook"),
    ("deeply nested JSON", "a.json", lambda: b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
]


@pytest.mark.parametrize(
    ("name", "make", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_file_that_cannot_be_read_says_why(
    name: str, make: Callable[[], bytes], reason: str
) -> None:
    said = reason_for(name, make())
    assert reason in said
    assert "\n" not in said
    assert len(said) < 250


def test_zip_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_BOMB_BYTES", 1_000_000)
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", "<d>" + "0" * 3_000_000)
    said = reason_for("a.docx", Path("bomb.zip").read_bytes())
    assert said == "unpacks to more than 1 MB: a zip bomb?"


def test_nothing_in_a_page_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a reader opened a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    page = '<link rel=stylesheet href="http://x/y.css"><iframe src="http://x"></iframe><p>Text.</p>'
    assert document_of("a.html", page).text == "Text."


def test_external_entities_are_not_read(here: Path) -> None:
    (here / "secret").write_text("SECRET")
    entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{here}/secret">]>'
    with zipfile.ZipFile("made.zip", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", f"{entity}<d>&x;</d>")
    assert "SECRET" not in reason_for("a.docx", Path("made.zip").read_bytes())


def test_a_file_that_changes_while_it_is_read_is_left_for_later(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = here / "a.txt"
    file.write_text("old")

    class WritingReader(TextReader):
        def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
            extracted = super().extract(file, budget)
            file.write_text("old and new")
            return extracted

    monkeypatch.setitem(READERS.own, "text", WritingReader)
    with pytest.raises(UnreadableFileError, match="changed while it was read"):
        read(SourceFile("a.txt", here), DocumentsSection())
