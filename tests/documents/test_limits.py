"""What a reader may take, and that nothing in a file makes it take more."""

from pathlib import Path

import pytest
from llama_index.core.schema import Document

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import READERS, Limits, UnreadableFileError
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import MAX_TITLE, read

from ..conftest import FakeEmbedder
from . import hostile


def document_of(name: str, content: bytes) -> Document:
    file = Path(name).absolute()
    file.write_bytes(content)
    return read(SourceFile(file.name, file.parent), DocumentsSection())


def kind(name: str) -> Document:
    return document_of(Path(name).name, hostile.KINDS[name]())


def reason_for(name: str) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        kind(name)
    return str(caught.value)


def read_within(name: str, content: bytes, limits: Limits) -> str:
    file = Path(name)
    file.write_bytes(content)
    return READERS[{".ipynb": "notebook"}.get(file.suffix, file.suffix[1:])](limits).load(file)[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"name\n" + b"value\n" * 100),
        ("a.json", b'["a value", "another value", "and so on and on"]'),
        ("a.html", b"<p>" + b"text " * 100),
        ("a.docx", hostile.docx(hostile.document_xml(hostile.paragraph("text " * 100)))),
        ("a.pdf", hostile.page_pdf()),
        ("a.ipynb", hostile.notebook([hostile.cell("text " * 100)])),
    ],
)
def test_text_is_counted_while_it_grows(name: str, content: bytes) -> None:
    assert read_within(name, content, Limits())
    with pytest.raises(UnreadableFileError, match="more than 1e-05 million characters"):
        read_within(name, content, Limits(characters=10))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"name\n" + b"value\n" * 1000),
        ("a.json", b"[" + b"1," * 1000 + b"1]"),
        ("a.html", b"<p>text" * 1000),
        ("a.docx", hostile.docx()),
        ("a.pdf", hostile.page_pdf()),
        ("a.ipynb", hostile.notebook([hostile.cell("text ")] * 1000)),
    ],
)
def test_time_is_checked_on_the_way(name: str, content: bytes) -> None:
    with pytest.raises(UnreadableFileError, match=r"takes longer than documents\.max_seconds"):
        read_within(name, content, Limits(seconds=-1))


def test_unpacked_bytes_are_counted_not_believed() -> None:
    with pytest.raises(UnreadableFileError, match=r"unpacks to more than 0\.0001 MB"):
        read_within("a.docx", hostile.docx(), Limits(unpacked=100))
    assert "Bad CRC-32" in reason_for("sizes that lie.docx")


def test_limits_are_the_configurations(here: Path) -> None:
    (here / "a.csv").write_text("column\n" + "1\n" * 200)
    section = DocumentsSection(max_file_size_mb=0.001)
    with pytest.raises(UnreadableFileError, match=r"0.001 million characters .documents.max_file"):
        read(SourceFile("a.csv", here), section)


# --- read, whatever it looks like ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("html/deep.html", "Deep text."),
        ("html/digits.html", "| a |"),
        ("html/odd digits.html", "| a |"),
        ("html/spaces as entities.html", "a b"),
        ("many titles.docx", "A plain paragraph."),
        ("bomb in the title.docx", "A plain paragraph."),
        ("number as title.pdf", "Some readable text."),
        ("dictionary as title.pdf", "Some readable text."),
        ("circular title.pdf", "Some readable text."),
        ("deep objects.pdf", "Some readable text."),
        ("bomb of drawing.pdf", "Some readable text."),
        ("form in itself.pdf", "Some readable text."),
        ("tables in a circle.pdf", "Some readable text."),
        ("surrogate.json", "a: x � y\n�: z 😀"),
        ("many digits.json", f"a: {'9' * 5000}"),
        ("not numbers.json", "a: NaN\nb: -Infinity\nc: 1e999"),
        ("NUL.json", "a: xy"),
        ("version 3.ipynb", "text"),
        ("odd sources.ipynb", "text"),
    ],
)
def test_odd_file_is_read(name: str, text: str) -> None:
    assert text in kind(name).text


def test_surrogates_of_fonts_and_notebooks_are_replaced() -> None:
    assert kind("surrogates in the text.pdf").text == "�ome readable text."
    assert kind("surrogate.ipynb").text == "x � y"


def test_cells_span_as_many_columns_as_there_are() -> None:
    assert kind("html/wide cell.html").text == "|  |  |\n| --- | --- |\n| a | |\n| b | c |"


def test_csv_field_of_any_length_is_read() -> None:
    assert len(kind("huge field.csv").text) > 500_000


def test_long_names_stand_once_in_full() -> None:
    table = kind("long column name.csv").text
    assert table.startswith("c" * 100_000 + "\n" + "c" * 199 + "…: 1\n")
    keys = kind("long key.json").text
    assert keys.startswith("k" * 1_000_000 + "\n" + "k" * 199 + "…: 0\n")


@pytest.mark.parametrize(
    "name", ["html/long title.html", "title of a megabyte.md", "title of a megabyte.pdf"]
)
def test_title_is_bounded(name: str) -> None:
    assert kind(name).metadata["title"] == "T" * (MAX_TITLE - 1) + "…"


@pytest.mark.parametrize(
    "name",
    [
        *("heading.md", "heading of spaces.md", "front matter never closed.md", "rules.md"),
        *("sniffer.csv", "sniffer of quotes.csv", "many columns.csv"),
        *("html/long list.html", "html/spaces.html", "html/spaces in code.html"),
    ],
)
def test_time_does_not_grow_with_the_square(name: str) -> None:
    file = Path(Path(name).name)
    file.write_bytes(hostile.KINDS[name]())
    kind = {".md": "markdown", ".csv": "csv", ".html": "html"}[file.suffix]
    assert READERS[kind](Limits(seconds=20)).load(file)[0]


# --- not read, for the reason that is true -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no document.docx", "no Word document: there is no word/document.xml in it"),
        ("encrypted archive.docx", "encrypted: its archive asks for a password"),
        ("lzma.docx", "word/document.xml is compressed as no Word document is"),
        ("many members.docx", "its archive has more than 20000 members"),
        ("xml/laughs.docx", "its XML declares a document type, which it may not"),
        ("xml/deep elements.docx", "its XML is nested more than 1000 deep"),
        ("xml/half the XML.docx", "its word/document.xml cannot be parsed: "),
        ("deep lists.json", "its values are nested too deep to be read"),
        ("deep objects.json", "its values are nested too deep to be read"),
        ("many objects.json", "it has so many values that they would take 525 MB of memory"),
        ("bad line.jsonl", "truncated or damaged: line 2 is no JSON: Expecting value"),
        ("version 99.ipynb", "not a notebook that can be read: Unsupported nbformat version 99"),
        ("list.ipynb", "not a notebook: it is no JSON object"),
        ("deep arrays.pdf", "no text in it, but scanned pages: OCR would read it"),
        ("pages in a circle.pdf", "no page of it can be read: Failed to load page"),
    ],
)
def test_reason_is_the_true_one(name: str, reason: str) -> None:
    assert reason in reason_for(name)


# --- splitting -----------------------------------------------------------------------------------


def test_text_without_a_place_to_split_is_cut(fake_embedder: FakeEmbedder) -> None:
    section = ChunkingSection(size=100, overlap=0)
    parser = NodeParser(section, fake_embedder.tokenize, fake_embedder.content_tokens)
    text = "Before. " + "+/" * 5000 + " After."
    nodes = parser.split(Document(text=text, id_="0" * 32))
    assert "".join(node.text for node in nodes).replace(" ", "") == text.replace(" ", "")
    assert max(len(fake_embedder.tokenize(node.text)) for node in nodes) <= 100
    assert [node.start_char_idx for node in nodes[:2]] == [0, 8]


def test_long_text_is_split_in_parts_and_nothing_is_lost(
    fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_app.documents.node_parser._MAX_PART", 1000)
    section = ChunkingSection(size=100, overlap=0)
    parser = NodeParser(section, fake_embedder.tokenize, fake_embedder.content_tokens)
    text = "\n\n".join(f"Paragraph {number} has a few words." for number in range(500))
    nodes = parser.split(Document(text=text, id_="0" * 32))
    assert " ".join(node.text for node in nodes).split() == text.split()
