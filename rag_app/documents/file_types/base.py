"""What all readers share: one document a file, read within limits."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.limits import (
    Budget,
    Limits,
    Place,
    UnreadableFileError,
)

ReadInside = Callable[[Path, Budget], tuple[str, str]]
"""Returns the type and the text."""

Span = tuple[float, ...]
"""Where a stretch of a text stands on a page: start and end in the text, the page (from 1), and its
box, x0, y0, x1, y1 in points from the page's top left corner."""


class FileReader:
    """Base of the readers: a subclass turns a file into text and, where it has one, a title.

    It knows nothing of LlamaIndex, which takes a second to import: processes that read files start
    without it.

    Parameters
    ----------
    limits
        What reading one file may take.

    Attributes
    ----------
    places
        Where what was read last stands in the file, beyond what its headings tell, in order.
    read_inside
        Reads a file that is in another one as its own type; `kinds` sets it, which knows them all.
    spans
        Where the text that was read last stands on its pages, in order; empty for types without.
    """

    read_inside: ClassVar[ReadInside]

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self.places: list[Place] = []
        self.spans: list[Span] = []

    def load(self, file: Path) -> tuple[str, str | None]:
        """Return a file's text and title.

        Raises
        ------
        UnreadableFileError
            If it cannot be read within the limits, or there is nothing in it to read.
        """
        try:
            budget = Budget(self._limits)
            text, title = self.extract(file, budget)
        except RecursionError:
            raise UnreadableFileError("nested too deep to be read") from None
        self.places = budget.places
        return text, title

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return a file's text and title, spending from `budget` on the way."""
        raise NotImplementedError


def text_of(file: Path) -> str:
    """Return the content of a file of text, without its byte order mark, with Unix's line ends.

    Raises
    ------
    UnreadableFileError
        If it is no text.
    """
    data = file.read_bytes()
    text = encoding_of(data).decode(data)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
