"""Words in pictures and scanned pages: Tesseract of the system, or RapidOCR (extra ``ocr``)."""

import logging
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.pdf import PAGE_BREAK, PDFReader
from rag_app.install import pip_install

WOULD_GAIN = "OCR would read it"
"""In the reason of each file that is skipped for want of OCR: the report counts them."""

_NO_TEXT = "no text in it"
"""How the PDF reader begins to say that pages have nothing but pictures."""

_DOTS_PER_INCH = 200
_MAX_PIXELS = 20_000_000
_MAX_PAGES = 2000

_log = logging.getLogger(__name__)

Recognize = Callable[[Path], str]


class ImageReader(FileReader):
    """The words in a picture, with ``documents.ocr``."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the words, line by line."""
        if budget.limits.ocr == "off":
            raise UnreadableFileError(f'a picture: {WOULD_GAIN} (documents.ocr = "auto")')
        budget.write(_recognizer(budget)(file))
        if not budget.text.strip():
            raise UnreadableFileError("a picture without words that OCR can read")
        return budget.text.strip(), None


class ScannedPdfReader(PDFReader):
    """A PDF; with ``documents.ocr`` also one whose pages are pictures."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the pages, and the title."""
        try:
            return super().extract(file, budget)
        except UnreadableFileError as error:
            if not str(error).startswith(_NO_TEXT):
                raise
            if budget.limits.ocr == "off":
                raise UnreadableFileError(
                    f'no text in it, but scanned pages: {WOULD_GAIN} (documents.ocr = "auto")'
                ) from None
        recognize = _recognizer(budget)
        self.spans = []
        # One of its own: the page breaks of the empty pages are in the other.
        scanned = budget.part()
        ends = time.monotonic() + 3 * budget.limits.seconds
        for number, picture in enumerate(_rendered(file), start=1):
            scanned.write(PAGE_BREAK if number > 1 else "")
            if time.monotonic() > ends or number > _MAX_PAGES:
                _log.warning(
                    "the pages from %d on are left out: OCR of them takes longer than "
                    "documents.max_seconds lets it",
                    number,
                )
                break
            scanned.write(recognize(picture).strip())
        if not scanned.text.strip(f"{PAGE_BREAK} \n"):
            raise UnreadableFileError("scanned pages without words that OCR can read")
        return scanned.text, None


def _recognizer(budget: Budget) -> Recognize:
    """Return what reads pictures.

    Raises
    ------
    UnreadableFileError
        If it is not there.
    """
    engine, languages = budget.limits.ocr, budget.limits.ocr_languages
    tesseract = shutil.which("tesseract") if engine in {"auto", "tesseract"} else None
    if tesseract:
        return lambda picture: _by_tesseract(tesseract, picture, languages, budget)
    if engine in {"auto", "rapidocr"} and (rapid := _rapid_ocr()):
        return lambda picture: _by_rapid_ocr(rapid, picture)
    raise UnreadableFileError(
        f"{WOULD_GAIN}, and is not there (documents.ocr = {engine!r}): apt install tesseract-ocr, "
        f"or {pip_install('ocr')}"
    )


def _by_tesseract(command: str, picture: Path, languages: str, budget: Budget) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the system's own, without a shell
            [command, str(picture), "stdout", "-l", languages],
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * budget.limits.seconds,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableFileError("OCR of a picture in it takes too long") from None
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-150:]
        raise UnreadableFileError(f"Tesseract cannot read it: {said}")
    return done.stdout.decode("utf-8", "replace").replace("\f", "\n")


@lru_cache(maxsize=1)
def _rapid_ocr() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR  # brings its models
    except ImportError:
        return None
    return RapidOCR(intra_op_num_threads=1)


def _by_rapid_ocr(engine: Any, picture: Path) -> str:
    found, _ = engine(str(picture))
    return "\n".join(text for _, text, _ in found or ())


def _rendered(file: Path) -> Iterator[Path]:
    """Yield each page of a PDF as a picture, which is there until the next one is asked for."""
    import pypdfium2

    pdf = pypdfium2.PdfDocument(file)
    try:
        with tempfile.TemporaryDirectory(prefix="rag_app-") as folder:
            for page in pdf:
                width, height = page.get_size()
                most = math.sqrt(_MAX_PIXELS / max(width * height, 1))
                pixels = page.render(
                    scale=min(_DOTS_PER_INCH / 72, most), grayscale=True
                ).to_numpy()
                picture = Path(folder, "page.pgm")
                rows, columns = pixels.shape[:2]
                picture.write_bytes(b"P5 %d %d 255\n" % (columns, rows) + pixels.tobytes())
                yield picture
    finally:
        pdf.close()
