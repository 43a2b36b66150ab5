"""Reader of PDF files."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

PAGE_BREAK = "\f"
"""Between the pages of a PDF, so that nodes can be told their page."""

_MAX_STREAM = 20_000_000
"""Bytes that any part of a PDF (a page's drawing, fonts, objects) may unpack to."""

_MAX_OPERATIONS = 1_000_000
"""Operators and operands of a page; pypdf keeps each as an object of some 100 bytes."""

_TEXT_OPERATOR = re.compile(rb"T[jJ]|['\"]|Do")
"""Show text, or draw a form that may; a page of lines and curves alone need not be parsed."""

_log = logging.getLogger(__name__)


class PDFReader(FileReader):
    """The text of a PDF's pages, `PAGE_BREAK` between them (pypdf).

    A page that cannot be read is left out with a warning; a file without any other is unreadable.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the pages, and the title of the file's properties."""
        from pypdf import PdfReader, apply_configuration

        data = file.read_bytes()
        if not data.lstrip()[:5] == b"%PDF-":
            raise UnreadableFileError("truncated or damaged: it does not begin as a PDF does")
        # pypdf mends what it can of a file that was cut off; the rest
        # would be missing without a word.
        if b"%%EOF" not in data.rstrip(b"\0\t\n\f\r ")[-2048:]:
            raise UnreadableFileError("truncated or damaged: its end (%%EOF) is missing")
        with apply_configuration(
            zlib_maximum_output_length=_MAX_STREAM,
            lzw_maximum_output_length=_MAX_STREAM,
            run_length_maximum_output_length=_MAX_STREAM,
            brotli_maximum_output_length=_MAX_STREAM,
            array_based_stream_maximum_output_length=_MAX_STREAM,
            stream_parsing_work_maximum_count=_MAX_OPERATIONS,
        ):
            pdf = PdfReader(file)
            # A file that only forbids printing opens with an empty password.
            if pdf.is_encrypted and not pdf.decrypt(""):
                raise UnreadableFileError("encrypted: it asks for a password")
            failure = _write_pages(pdf, budget)
            text = budget.text
            if not text.strip(f"{PAGE_BREAK} \n"):
                raise UnreadableFileError(
                    f"no page of it can be read: {failure}"
                    if failure
                    else "no text in it: scanned pages need OCR first"
                )
            return text, _title(pdf)


def _write_pages(pdf: "PdfReader", budget: Budget) -> str:
    """Write each page's text; return the first reason why a page could not be read, if any."""
    failure = ""
    for number, page in enumerate(pdf.pages, start=1):
        budget.check_time()
        # Before a page that is left out as well: the others keep their numbers.
        if number > 1:
            budget.write(PAGE_BREAK)
        try:
            budget.write(_text_of_page(page, budget))
        # A limit is the file's, and leaves out more than a page.
        except (UnreadableFileError, MemoryError):
            raise
        except Exception as error:
            deep = isinstance(error, RecursionError)
            why = "nested too deep" if deep else str(error) or type(error).__name__
            failure = failure or why
            _log.warning("page %d is left out: %s", number, why)
    return failure


def _text_of_page(page: "PageObject", budget: Budget) -> str:
    contents = page.get_contents()
    if contents is None or not _TEXT_OPERATOR.search(contents.get_data()):
        return ""
    written = 0

    def tick(*_: Any) -> None:
        budget.tick()

    def check_text(text: str, *_: Any) -> None:
        nonlocal written
        # pypdf keeps a page's text until the page ends, so it is counted while it grows.
        written += len(text)
        budget.check_text(written)

    return page.extract_text(visitor_operand_before=tick, visitor_text=check_text)


def _title(pdf: "PdfReader") -> str | None:
    """Return the title, if there is one that can be read: nothing else depends on it."""
    try:
        title = pdf.metadata.title if pdf.metadata else None
    except Exception as error:
        _log.warning("the title is left out: %s", error or type(error).__name__)
        return None
    return title if isinstance(title, str) else None
