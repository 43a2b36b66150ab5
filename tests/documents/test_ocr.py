"""Words in pictures and scanned pages, and who is told that they could be read."""

import io
import shutil
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.file_types.limits import Limits
from rag_app.documents.read import parse

from ..conftest import make_files

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="without tesseract")


def picture(text: str = "Pumps are oiled weekly") -> bytes:
    image = Image.new("L", (900, 160), 255)
    ImageDraw.Draw(image).text((20, 40), text, fill=0, font=ImageFont.load_default(56))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def scan(*texts: str) -> bytes:
    pdf = FPDF()
    for text in texts:
        pdf.add_page()
        pdf.image(io.BytesIO(picture(text)), w=180)
    return bytes(pdf.output())


def read_text(name: str, data: bytes, folder: Path, ocr: str = "tesseract") -> str:
    (folder / name).write_bytes(data)
    return parse(folder / name, Limits(ocr=ocr))[0]


@needs_tesseract
def test_words_in_pictures_and_scans_are_read(tmp_path: Path) -> None:
    assert read_text("a.png", picture(), tmp_path) == "Pumps are oiled weekly"
    pages = read_text("a.pdf", scan("Pumps are oiled", "Valves are checked"), tmp_path).split("\f")
    assert [page.strip() for page in pages] == ["Pumps are oiled", "Valves are checked"]


@needs_tesseract
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "Tesseract cannot read it"),
        ("a.png", picture(" "), "without words|no words"),
    ],
)
def test_pictures_without_words_say_so(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read_text(name, data, tmp_path)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("rag_app.documents.file_types.ocr._rapid_ocr", lambda: None)
    with pytest.raises(UnreadableFileError, match=r"pip install .*\[ocr\]"):
        read_text("a.png", picture(), tmp_path, "auto")


def test_rapid_ocr_reads_without_a_download(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime")
    assert "oiled" in read_text("a.png", picture(), tmp_path, "rapidocr")


def test_the_report_says_which_files_would_gain(
    tmp_path: Path, run: "object", fake_embedder: "object"
) -> None:
    assert callable(run)
    folder = make_files(
        tmp_path / "docs", {"a.png": picture(), "b.pdf": scan("x"), "c.md": "Text."}
    )
    result = run("ingest", str(folder))
    assert result.exit_code == 0
    assert 'skipped a.png: a picture: OCR would read it (documents.ocr = "auto")' in result.stderr
    assert "skipped b.pdf: no text in it, but scanned pages: OCR would read it" in result.stderr
    assert "2 files are pictures or scans" in result.stderr
