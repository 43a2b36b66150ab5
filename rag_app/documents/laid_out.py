"""A document that tells where on its pages its text stands."""

from llama_index.core.schema import Document
from pydantic import Field

from rag_app.documents.file_types import Span


class LaidOut(Document):
    """A document with the places of its lines.

    In a field, not in the metadata, which LlamaIndex's splitters copy into each node.
    """

    spans: list[Span] = Field(default=[], description="In the order of the text.")

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "LaidOut"
