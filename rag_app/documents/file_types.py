"""One LlamaIndex reader per type of file: each returns a single `Document` of Markdown-like text.

A reader puts ``title`` into the metadata where the file itself has one. Files may be of unknown
origin: nothing in them is run or fetched, and archives are sized before they are unpacked.
"""

import csv
import html
import io
import json
import re
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

PAGE_BREAK = "\f"
"""Between the pages of a PDF, so that nodes can be told their page."""

MAX_UNPACKED_BYTES = 500_000_000
"""A DOCX that unpacks to more is taken for a zip bomb."""

_NOT_CONTENT = {
    *("script", "style", "svg", "button", "nav", "noscript", "template", "iframe", "object"),
    *("canvas", "form", "input", "select", "dialog"),
}
_NOT_CONTENT_ROLES = {"navigation", "banner", "contentinfo", "search", "button", "menu", "dialog"}

_SUFFIXES = {
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "docx": (".docx",),
    "csv": (".csv", ".tsv"),
    "json": (".json", ".jsonl", ".ndjson"),
    "notebook": (".ipynb",),
    "code": (
        *(".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".java", ".kt", ".go", ".rs", ".swift"),
        *(".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".rb", ".php", ".scala", ".lua", ".pl", ".r"),
        *(".sh", ".bash", ".sql", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".xml", ".css"),
        *(".proto", ".tf", ".mk", ".cmake"),
    ),
}
_TYPE_OF = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_BINARY_TYPES = {"pdf", "docx"}
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How a password-protected Office file begins (MS-OFFCRYPTO: it is an OLE file, not a zip)."""


class UnreadableFileError(Exception):
    """A file that is skipped; the message is the reason in the report."""


def file_type(path: Path, data: bytes) -> str:
    """Tell a file's type by its suffix; any other that holds UTF-8 text is "text".

    Raises
    ------
    UnreadableFileError
        If the file is binary without a reader for it, or text that is not UTF-8.
    """
    kind = _TYPE_OF.get(path.suffix.lower(), "text")
    if kind in _BINARY_TYPES:
        return kind
    if b"\0" in data[:8192] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFileError(f"binary: no reader for {path.suffix or 'files without suffix'}")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start}; convert it with iconv"
        ) from None
    return kind


class TextReader(BaseReader):
    """Plain text and source code, as they are."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file; `extra_info` is LlamaIndex's name for metadata to add."""
        return [Document(text=_text_of(file), metadata=extra_info or {})]


class MarkdownReader(BaseReader):
    """Markdown as it is, less its front matter; the title is that one's or the first "#"."""

    _front_matter = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*\n", re.DOTALL)
    _title_line = re.compile(r"^title:[ \t]*([\"']?)([^\"'\s].*?)\1[ \t]*$", re.MULTILINE)

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file."""
        text = _text_of(file)
        title = None
        if front := self._front_matter.match(text):
            title = self._title_line.search(front[1])
            text = text[front.end() :]
        return [_document(text, title[2] if title else _first_heading(text), extra_info)]


class HTMLReader(BaseReader):
    """The content of a page as Markdown: headings, lists, tables and code, without what is around.

    BeautifulSoup drops scripts, navigation, buttons and pictures, markdownify renders the rest.
    (Trafilatura, measured on the same pages, flattens tables that stand in lists.)
    """

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file."""
        from bs4 import BeautifulSoup, Comment  # 0.1 s with lxml
        from markdownify import MarkdownConverter

        soup = BeautifulSoup(_text_of(file), "lxml")
        heading = soup.title.get_text(" ", strip=True) if soup.title else None
        content = soup.find("main") or soup.find(role="main") or soup.body or soup
        for comment in content.find_all(string=lambda text: isinstance(text, Comment)):
            comment.extract()
        for tag in content.find_all(_is_not_content):
            tag.decompose()
        if first := content.find("h1"):
            heading = first.get_text(" ", strip=True) or heading
        text = MarkdownConverter(
            heading_style="ATX",
            strip=["a", "img"],
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
            code_language_callback=_code_language,
        ).convert_soup(content)
        return [_document(re.sub(r"\n{3,}", "\n\n", text).strip(), heading, extra_info)]


class PDFReader(BaseReader):
    """The text of a PDF's pages, `PAGE_BREAK` between them (pypdf)."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file."""
        from pypdf import PdfReader

        data = file.read_bytes()
        if not data.lstrip()[:5] == b"%PDF-":
            raise UnreadableFileError("truncated or damaged: it does not begin as a PDF does")
        if b"%%EOF" not in data[-2048:]:
            raise UnreadableFileError("truncated or damaged: its end (%%EOF) is missing")
        pdf = PdfReader(file)
        if pdf.is_encrypted and not pdf.decrypt(""):
            raise UnreadableFileError("encrypted: it asks for a password")
        text = PAGE_BREAK.join(page.extract_text() for page in pdf.pages)
        if not text.strip(f"{PAGE_BREAK} \n"):
            raise UnreadableFileError("no text in it: scanned pages need OCR first")
        title = pdf.metadata.title if pdf.metadata else None
        return [_document(text, title, extra_info)]


class DocxReader(BaseReader):
    """The text of a Word document (docx2txt)."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file."""
        import docx2txt

        with file.open("rb") as head:
            if head.read(8) == _OLE_MAGIC:
                raise UnreadableFileError("encrypted, or an old .doc: save it as a plain .docx")
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise UnreadableFileError(f"unpacks to {unpacked / 1e6:.0f} MB: a zip bomb?")
            properties = b""
            if "docProps/core.xml" in archive.namelist():
                properties = archive.read("docProps/core.xml")
        title = re.search("<dc:title>(.*?)</dc:title>", properties.decode("utf-8", "replace"))
        named = html.unescape(title[1]) if title else None
        return [_document(docx2txt.process(file), named, extra_info)]


class CSVReader(BaseReader):
    """Each row on a line as "column: value, …", so that a row says what its values mean."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file; the delimiter is sniffed."""
        text = _text_of(file)
        try:
            sample = "\n".join(text.split("\n", 20)[:20])
            delimiter = csv.Sniffer().sniff(sample, delimiters=",;\t|").delimiter
        except csv.Error:
            delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        rows = csv.reader(io.StringIO(text), delimiter=delimiter)
        header = next(rows, [])
        lines = (", ".join(_cells(header, row)) for row in rows)
        text = "\n".join(line for line in lines if line)
        return [_document(text or ", ".join(header), None, extra_info)]


class JSONReader(BaseReader):
    """Each value on a line behind the keys that lead to it, a blank line between records."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file of JSON or JSON lines."""
        text = _text_of(file)
        if file.suffix.lower() in {".jsonl", ".ndjson"}:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            whole = json.loads(text)
            records = whole if isinstance(whole, list) else [whole]
        blocks = ("\n".join(_leaves(record, ())) for record in records)
        return [_document("\n\n".join(blocks), None, extra_info)]


class NotebookReader(BaseReader):
    """A Jupyter notebook's cells in order, code in fences, without outputs (nbformat)."""

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file."""
        import nbformat

        notebook = nbformat.reads(_text_of(file), as_version=4)
        cells = [
            f"```\n{cell.source}\n```" if cell.cell_type == "code" else cell.source
            for cell in notebook.cells
            if cell.source.strip()
        ]
        text = "\n\n".join(cells)
        return [_document(text, _first_heading(text), extra_info)]


READERS: dict[str, type[BaseReader]] = {
    "text": TextReader,
    "code": TextReader,
    "markdown": MarkdownReader,
    "html": HTMLReader,
    "pdf": PDFReader,
    "docx": DocxReader,
    "csv": CSVReader,
    "json": JSONReader,
    "notebook": NotebookReader,
}


def _document(text: str, title: str | None, metadata: dict[str, Any] | None) -> Document:
    named = {"title": " ".join(title.split())} if title and title.strip() else {}
    return Document(text=text, metadata={**(metadata or {}), **named})


def _first_heading(text: str) -> str | None:
    """Return Markdown's first "#", comments in fenced code left out."""
    prose = re.sub(r"^ *(```+|~~~+).*?(^ *\1|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    heading = re.search(r"^#[ \t]+(.+?)[ \t#]*$", prose, re.MULTILINE)
    return heading[1] if heading else None


def _cells(header: list[str], row: list[str]) -> Iterator[str]:
    for name, value in zip_longest(header, row, fillvalue=""):
        if value:
            yield f"{name}: {value}" if name else value


def _leaves(value: Any, keys: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, keys)
    else:
        yield f"{' '.join(keys)}: {value}" if keys else str(value)


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig")


def _is_not_content(tag: Any) -> bool:
    if tag.name in _NOT_CONTENT or tag.get("role") in _NOT_CONTENT_ROLES:
        return True
    if tag.has_attr("hidden") or tag.get("aria-hidden") == "true":
        return True
    # A page's header and footer are navigation; an article's own header holds its title.
    return tag.name in {"header", "footer", "aside"} and tag.find_parent("article") is None


def _code_language(pre: Any) -> str:
    code = pre.find("code")
    classes = [*(pre.get("class") or []), *((code.get("class") or []) if code else [])]
    return next((name.removeprefix("language-") for name in classes if "language-" in name), "")
