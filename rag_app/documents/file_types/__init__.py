"""One LlamaIndex reader per type of file: each returns a single `Document` of Markdown-like text.

A reader puts ``title`` into the metadata where the file itself has one. Files may be of unknown
origin: nothing in them is run or fetched, and what they unpack to, the text they become and the
time they take are counted while they are read (`Limits`).
"""

from rag_app.documents.file_types.base import FileReader, Span
from rag_app.documents.file_types.kinds import READERS, file_type
from rag_app.documents.file_types.limits import Budget, Limits, UnreadableFileError
from rag_app.documents.file_types.pdf import PAGE_BREAK

__all__ = [
    "PAGE_BREAK",
    "READERS",
    "Budget",
    "FileReader",
    "Limits",
    "Span",
    "UnreadableFileError",
    "file_type",
]
