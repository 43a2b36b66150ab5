"""Reader of PDF files: PDFium tells where each letter stands, and the layout makes text of it."""

import logging
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from rag_app.documents.file_types.base import FileReader, Span
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.pdf_layout import (
    Block,
    Headings,
    Page,
    blocks_of,
    drop_running_heads,
)
from rag_app.documents.file_types.pdf_text import Box, Place, ruled_lines, runs_of

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PAGE_BREAK = "\f"
"""Between the pages of a PDF, so that nodes can be told their page."""

PASSWORDS = "RAG_APP_PDF_PASSWORDS"
"""The environment variable with the passwords to try, a line each. They are never printed."""

_MAX_PAGES = 20_000

_NO_TITLE = re.compile(
    r"(microsoft (word|powerpoint|excel) ?- .*|untitled.*|powerpoint.presentation|slide \d+|"
    r"document ?\d*|.*\.(docx?|pptx?|xlsx?|dvi|tex|pdf|indd|qxd|rtf|odt|pages)|\S+\.\w{2,4}|"
    r"[\d._-]*)",
    re.IGNORECASE,
)
"""What programs write for a title where nobody gave one."""

_BEGINNING = 4000
"""Characters in which the title of a document is looked for."""

_COMPOUND = re.compile(r"[^\W\d_]+-[^\W\d_]+")
_FIRST_WORD = re.compile(r"^[^\W\d_]+")
_LAST_WORD = re.compile(r"[^\W\d_]+-$")
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"[\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Scripts that have no spaces between words."""

_TURN = Lock()
"""PDFium has state of its own, and is for one thread at a time."""

_log = logging.getLogger(__name__)


class PDFReader(FileReader):
    """The text of a PDF's pages as Markdown, `PAGE_BREAK` between them (PDFium).

    Columns are read one after the other, headings told by their size, tables kept, and running
    heads and page numbers left out. A page that cannot be read is left out with a warning; a file
    without any other is unreadable.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the pages, and the title: the file's, or its largest heading."""
        data = file.read_bytes()
        if not data.lstrip()[:5] == b"%PDF-":
            raise UnreadableFileError("truncated or damaged: it does not begin as a PDF does")
        # PDFium mends what it can of a file that was cut off; the rest
        # would be missing without a word.
        if b"%%EOF" not in data.rstrip(b"\0\t\n\f\r ")[-2048:]:
            raise UnreadableFileError("truncated or damaged: its end (%%EOF) is missing")
        with _TURN:
            return self._read(data, budget)

    def _read(self, data: bytes, budget: Budget) -> tuple[str, str | None]:
        pdf = _open(data)
        try:
            pages, failure = _read_pages(pdf, budget)
            drop_running_heads(pages)
            blocks = []
            for page in pages:
                budget.check_time()
                blocks.append(blocks_of(page))
            self.spans = _write(blocks, budget)
            text = budget.text
            if not text.strip(f"{PAGE_BREAK} \n"):
                raise UnreadableFileError(
                    f"no page of it can be read: {failure}"
                    if failure
                    else "no text in it: scanned pages need OCR first"
                )
            return text, _title(pdf, text)
        finally:
            pdf.close()


def _open(data: bytes) -> "PdfDocument":
    import pypdfium2

    # A file that only forbids printing opens without one.
    for password in [None, *os.environ.get(PASSWORDS, "").splitlines()]:
        try:
            return pypdfium2.PdfDocument(data, password=password)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) != pypdfium2.raw.FPDF_ERR_PASSWORD:
                raise UnreadableFileError(f"truncated or damaged: {error}") from None
    raise UnreadableFileError(
        f"encrypted: it asks for a password; give it in the environment variable {PASSWORDS}"
    )


def _read_pages(pdf: "PdfDocument", budget: Budget) -> tuple[list[Page], str]:
    """Return what stands on each page, and the first reason why one could not be read, if any."""
    pages: list[Page] = []
    failure, letters = "", 0
    for number in range(min(len(pdf), _MAX_PAGES)):
        budget.check_time()
        read = Page([])
        try:
            page = pdf[number]
            try:
                place = Place.of(page)
                read.height = place.height if place.rotation in (0, 180) else place.width
                read.runs = runs_of(page, place, budget)
                read.lines = ruled_lines(page, place, budget)
            finally:
                page.close()
        # A limit is the file's, and leaves out more than a page.
        except (UnreadableFileError, MemoryError):
            raise
        except Exception as error:
            why = str(error) or type(error).__name__
            failure = failure or why
            _log.warning("page %d is left out: %s", number + 1, why)
        letters += sum(len(run.text) for run in read.runs)
        budget.check_text(letters)
        pages.append(read)
    return pages, failure


def _write(pages: list[list[Block]], budget: Budget) -> list[Span]:
    """Write the blocks as Markdown; return where each of their lines stands."""
    headings = Headings(block for page in pages for block in page)
    compounds = _compounds(pages)
    spans: list[Span] = []
    at = 0

    def write(text: str) -> None:
        nonlocal at
        budget.write(text)
        at += len(text)

    for number, blocks in enumerate(pages, start=1):
        if number > 1:
            write(PAGE_BREAK)
        for block in blocks:
            budget.check_time()
            if block is not blocks[0]:
                write("\n\n")
            if level := headings.level(block):
                write(f"{'#' * level} ")
            for text, box in _lines(block, compounds):
                spans.append((at, at + len(text), number, *(round(each, 1) for each in box)))
                write(text)
    return spans


def _lines(block: Block, compounds: frozenset[str]) -> Iterator[tuple[str, Box]]:
    """Yield a block's lines with what joins each to the next one."""
    for (text, box), (following, _) in pairwise([*block.lines, ("", block.lines[-1][1])]):
        if not following:
            yield text, box
        elif not block.is_text:
            yield f"{text}\n", box
        elif text[-1] == "-" and text[-2:-1].isalpha() and following[0].islower():
            first, last = _FIRST_WORD.search(following), _LAST_WORD.search(text)
            compound = f"{last[0]}{first[0]}".lower() if first and last else ""
            # Words that are written with a hyphen in the middle of a line keep it.
            yield (text if compound in compounds else text[:-1]), box
        elif _UNSPACED.match(text[-1]) and _UNSPACED.match(following):
            yield text, box
        else:
            yield f"{text} ", box


def _compounds(pages: list[list[Block]]) -> frozenset[str]:
    return frozenset(
        word.lower()
        for page in pages
        for block in page
        for text, _ in block.lines
        for word in _COMPOUND.findall(text)
    )


def _title(pdf: "PdfDocument", text: str) -> str | None:
    """Return the title of the file's properties, or else of its text.

    Many properties hold the name of a template, or of another file: what does not stand on the
    first pages gives way to their largest heading.
    """
    try:
        given = " ".join(pdf.get_metadata_value("Title").split())
    except UnicodeDecodeError as error:
        _log.warning("the title is left out: %s", error)
        given = ""
    if _NO_TITLE.fullmatch(given[:300]):
        given = ""
    start = text[:_BEGINNING]
    heading = re.search(r"^# (.+)$", start, re.MULTILINE)
    is_there = _letters(given[:300]) in _letters(start)
    if heading and not (given and is_there):
        return heading[1].strip()
    return given or None


def _letters(text: str) -> str:
    return "".join(_WORD.findall(text)).casefold()
