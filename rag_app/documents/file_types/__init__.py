"""One LlamaIndex reader per type of file: each returns a single `Document` of Markdown-like text.

A reader puts ``title`` into the metadata where the file itself has one. Files may be of unknown
origin: nothing in them is run or fetched, and what they unpack to, the text they become and the
time they take are counted while they are read (`Limits`).
"""

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.docx import DocxReader
from rag_app.documents.file_types.html import HTMLReader
from rag_app.documents.file_types.kinds import file_type
from rag_app.documents.file_types.limits import Limits, UnreadableFileError
from rag_app.documents.file_types.pdf import PAGE_BREAK, PDFReader
from rag_app.documents.file_types.records import CSVReader, JSONReader, NotebookReader
from rag_app.documents.file_types.text import MarkdownReader, TextReader

__all__ = [
    "PAGE_BREAK",
    "READERS",
    "FileReader",
    "Limits",
    "UnreadableFileError",
    "file_type",
]

READERS: dict[str, type[FileReader]] = {
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
"""By type."""
