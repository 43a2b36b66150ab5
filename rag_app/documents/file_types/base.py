"""What all readers share: one document a file, read within limits."""

from pathlib import Path
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import Document

from rag_app.documents.file_types.limits import Budget, Limits, UnreadableFileError


class FileReader(BaseReader):
    """Base of the readers: a subclass turns a file into text and, where it has one, a title.

    Parameters
    ----------
    limits
        What reading one file may take.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        """Read one file.

        Parameters
        ----------
        file
            Its path.
        extra_info
            LlamaIndex's name for metadata to add.

        Raises
        ------
        UnreadableFileError
            If it cannot be read within the limits, or there is nothing in it to read.
        """
        try:
            text, title = self.extract(file, Budget(self._limits))
        except RecursionError:
            raise UnreadableFileError("nested too deep to be read") from None
        except MemoryError:
            raise UnreadableFileError("reading it takes more memory than there is") from None
        named = {"title": title} if title else {}
        return [Document(text=text, metadata={**(extra_info or {}), **named})]

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return a file's text and title, spending from `budget` on the way."""
        raise NotImplementedError


def text_of(file: Path) -> str:
    """Return the content of a file of UTF-8 text, without its byte order mark."""
    return file.read_text(encoding="utf-8-sig")
