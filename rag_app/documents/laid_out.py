"""A LlamaIndex document that tells where on its pages its text stands."""

import logging
from pathlib import Path
from typing import Any

from llama_index.core import SimpleDirectoryReader
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document
from pydantic import Field

from rag_app.documents.file_types import Span

# LlamaIndex warns at each file that its own collection of readers is not installed: ours serve.
logging.getLogger("llama_index.core.readers.file.base").addFilter(
    lambda record: "llama-index-readers-file" not in record.getMessage()
)


class LaidOut(Document):
    """A document with the places of its lines.

    In a field, not in the metadata, which LlamaIndex's splitters copy into each node.
    """

    spans: list[Span] = Field(default=[], description="In the order of the text.")

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "LaidOut"


class _Parsed(BaseReader):
    """The reader of a file that was parsed before, perhaps in another process."""

    def __init__(self, text: str, spans: list[Span]) -> None:
        self._text = text
        self._spans = spans

    def load_data(self, _: Path, extra_info: dict[str, Any]) -> list[Document]:
        return [LaidOut(text=self._text, spans=self._spans, metadata=extra_info)]


def load_document(path: Path, text: str, spans: list[Span], metadata: dict[str, Any]) -> Document:
    """Load what was parsed of a file as `SimpleDirectoryReader` does, but with our metadata.

    LlamaIndex's own would put absolute paths into each node.
    """
    (document,) = SimpleDirectoryReader.load_file(
        input_file=path,
        file_metadata=lambda _: metadata,
        file_extractor={path.suffix.lower(): _Parsed(text, spans)},
        # Without it LlamaIndex prints the failure, and returns nothing.
        raise_on_error=True,
    )
    return document
