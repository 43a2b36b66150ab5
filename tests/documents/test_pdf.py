"""PDFs are read as people read them: columns, headings, tables; and passages know their place."""

import json
import random
from pathlib import Path

import pytest
from fpdf import FPDF
from fpdf.enums import Align
from llama_index.core.schema import TextNode
from pypdf import PdfReader, PdfWriter

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import PAGE_BREAK, UnreadableFileError
from rag_app.documents.file_types.pdf import PASSWORDS
from rag_app.documents.laid_out import LaidOut
from rag_app.documents.node_parser import MAX_BOXES, NodeParser, boxes_of
from rag_app.documents.read import read
from tests.conftest import words

TABLE = [["Index", "Memory", "Recall"], ["FLAT", "512 MB", "1.00"], ["HNSW", "610 MB", "0.98"]]


def prose(name: str, number: int) -> str:
    """Sentences that differ, and say whose they are."""
    draw = random.Random(name)
    nouns = ["index", "vector", "graph", "query", "cluster", "segment", "shard", "field"]
    return " ".join(
        f"In {name} sentence {n} every {draw.choice(nouns)} knows its {draw.choice(nouns)}."
        for n in range(number)
    )


class Paper(FPDF):  # type: ignore[misc]
    """A page number and a running head on each page."""

    def header(self) -> None:
        self.set_font("helvetica", size=8)
        self.cell(0, 8, "Journal of Tests, Volume 7", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("helvetica", size=8)
        self.cell(0, 8, f"Page {self.page_no()} of 3", align=Align.C)


def paper() -> FPDF:
    pdf = Paper()
    pdf.set_title("IEEE Conference Template A4")
    pdf.add_page()
    pdf.set_font("helvetica", size=22)
    pdf.multi_cell(0, 10, "A study of columns", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=14)
    pdf.multi_cell(0, 10, "Introduction", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=10)
    # Right column first: what is drawn first need not be read first.
    top = pdf.get_y()
    for left, text in ((110, prose("right", 20)), (10, prose("left", 20))):
        pdf.set_xy(left, top)
        pdf.multi_cell(85, 5, text)
    pdf.add_page()
    pdf.set_font("helvetica", size=14)
    pdf.multi_cell(0, 10, "Results", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=10)
    pdf.multi_cell(0, 5, prose("before", 3), new_x="LMARGIN", new_y="NEXT")
    with pdf.table() as table:
        for row in TABLE:
            table.row(row)
    pdf.ln(5)
    pdf.multi_cell(0, 5, prose("after", 3), new_x="LMARGIN", new_y="NEXT")
    pdf.add_page()
    pdf.set_font("helvetica", style="B", size=10)
    pdf.multi_cell(0, 8, "Of bold letters", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=10)
    pdf.multi_cell(0, 5, "The well-known con-\nsistency of a well-\nknown index.")
    pdf.ln(8)
    for at, row in enumerate(TABLE * 2):
        for column, cell in enumerate(row):
            pdf.text(20 + 45 * column, 100 + 6 * at, f"{cell}{at if column == 0 else ''}")
    return pdf


def document_of(data: bytes, name: str = "a.pdf") -> LaidOut:
    Path(name).write_bytes(data)
    document = read(SourceFile(name, Path.cwd()), DocumentsSection())
    assert isinstance(document, LaidOut)
    return document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> LaidOut:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pdf"))
        return document_of(bytes(paper().output()))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_columns_are_read_one_after_the_other(document: LaidOut) -> None:
    page = document.text.split(PAGE_BREAK)[0]
    assert prose("left", 20) in page
    assert page.index(prose("left", 20)) < page.index(prose("right", 20))


def test_headings_are_told_by_their_size_and_by_bold_letters(document: LaidOut) -> None:
    lines = [line for line in document.text.splitlines() if line.startswith("#")]
    assert [line.lstrip(PAGE_BREAK) for line in lines] == [
        "# A study of columns",
        "## Introduction",
        "## Results",
        "### Of bold letters",
    ]


def test_tables_are_markdown_with_lines_and_without(document: LaidOut) -> None:
    ruled = "| Index | Memory | Recall |\n| --- | --- | --- |\n| FLAT | 512 MB | 1.00 |\n| HNSW |"
    _, second, third = document.text.split(PAGE_BREAK)
    assert ruled in second
    assert second.index(prose("before", 3)) < second.index(ruled) < second.index(prose("after", 3))
    assert "| Index0 | Memory | Recall |\n| --- | --- | --- |\n| FLAT1 | 512 MB | 1.00 |" in third


def test_running_heads_and_page_numbers_are_left_out(document: LaidOut) -> None:
    assert "Journal of Tests" not in document.text
    assert "of 3" not in document.text
    assert document.text.count(PAGE_BREAK) == 2


def test_hyphens_at_line_ends_go_and_those_of_compounds_stay(document: LaidOut) -> None:
    assert "The well-known consistency of a well-known index." in document.text


def test_the_name_of_a_template_is_no_title(document: LaidOut) -> None:
    assert document.metadata["title"] == "A study of columns"


@pytest.mark.parametrize(
    "title", ["Microsoft Word - draft7.doc", "untitled", "PowerPoint Presentation", "x.indd", "12"]
)
def test_what_programs_write_is_no_title(title: str) -> None:
    pdf = FPDF()
    pdf.set_title(title)
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(0, 8, "Text.")
    assert document_of(bytes(pdf.output()), "report.pdf").metadata["title"] == "report"


def nodes_of(document: LaidOut) -> list[TextNode]:
    return NodeParser(ChunkingSection(size=60, overlap=0), words, reads=100).split(document)


def test_boxes_of_nodes_lie_where_their_text_stands(document: LaidOut) -> None:
    nodes = nodes_of(document)
    assert {node.metadata["page"] for node in nodes} == {1, 2, 3}
    for node in nodes:
        boxes = node.metadata["boxes"]
        assert 0 < len(boxes) <= MAX_BOXES
        assert json.loads(json.dumps(boxes)) == boxes
        assert boxes[0][0] == node.metadata["page"]
        for _, x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 596
            assert 0 <= y0 < y1 <= 842
    left = [node for node in nodes if "In left" in node.text and "In right" not in node.text]
    assert len(left) > 1
    assert all(box[3] < 300 for node in left[1:] for box in node.metadata["boxes"])
    # The next lines of a column are lower.
    assert left[1].metadata["boxes"][0][2] >= left[0].metadata["boxes"][-1][2]


def test_boxes_are_seen_from_the_sheets_own_top() -> None:
    # FPDF writes the sheet's size once, for all pages: each has it from its parent.
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.set_xy(20, 100)
    pdf.cell(0, 8, "Text in the middle.")
    (node,) = nodes_of(document_of(bytes(pdf.output()), "report.pdf"))
    ((_, left, top, _, bottom),) = node.metadata["boxes"]
    millimetre = 72 / 25.4
    assert left / millimetre == pytest.approx(21, abs=1)
    assert 100 * millimetre < (top + bottom) / 2 < 108 * millimetre


def test_headings_and_rows_of_tables_have_boxes_too(document: LaidOut) -> None:
    (node,) = (node for node in nodes_of(document) if "| HNSW | 610 MB" in node.text)
    assert node.metadata["headings"] == "A study of columns › Results"
    assert node.metadata["boxes"]


def test_many_lines_share_boxes() -> None:
    spans = [(n, n + 1, 1 + n // 150, 10.0, n, 20.0 + n, n + 1.0) for n in range(300)]
    boxes = boxes_of(spans)
    assert len(boxes) <= MAX_BOXES
    assert boxes[0] == [1, 10.0, 0, 24.0, 5.0]
    assert {box[0] for box in boxes} == {1, 2}


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_boxes_are_of_the_page_as_it_is_shown(turned: int) -> None:
    pdf = FPDF(unit="pt", format=(400, 300))
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.text(40, 60, "Top left.")
    writer = PdfWriter()
    Path("plain.pdf").write_bytes(bytes(pdf.output()))
    writer.append(PdfReader("plain.pdf"))
    writer.pages[0].rotate(turned)
    writer.write("turned.pdf")
    (span,) = document_of(Path("turned.pdf").read_bytes()).spans
    x, y = (span[3] + span[5]) / 2, (span[4] + span[6]) / 2
    # (65, 55) on a page of 400 by 300, turned clockwise.
    expected = {0: (65, 55), 90: (245, 65), 180: (335, 245), 270: (55, 335)}[turned]
    assert (x, y) == pytest.approx(expected, abs=8)


def encrypted(password: str) -> bytes:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(0, 8, "A secret.")
    Path("open.pdf").write_bytes(bytes(pdf.output()))
    writer = PdfWriter(clone_from=PdfReader("open.pdf"))
    writer.encrypt(user_password=password, algorithm="AES-256")
    writer.write("locked.pdf")
    return Path("locked.pdf").read_bytes()


def test_a_password_from_the_environment_opens_and_is_never_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encrypted("hunter2")
    with pytest.raises(UnreadableFileError, match=f"password.*{PASSWORDS}"):
        document_of(data)
    monkeypatch.setenv(PASSWORDS, "wrong1")
    with pytest.raises(UnreadableFileError) as caught:
        document_of(data)
    assert "wrong1" not in str(caught.value)
    monkeypatch.setenv(PASSWORDS, "wrong1\nhunter2")
    assert document_of(data).text == "A secret."


def test_ligatures_are_letters() -> None:
    pdf = FPDF()
    pdf.add_page()
    font = next(Path("/usr/share/fonts").rglob("DejaVuSans.ttf"), None)
    if font is None:
        pytest.skip("there is no font with ligatures: install DejaVu")
    pdf.add_font("deja", fname=str(font))
    pdf.set_font("deja", size=12)
    pdf.cell(0, 8, "An eﬃcient ﬁle ﬂow.")
    assert document_of(bytes(pdf.output())).text == "An efficient file flow."
