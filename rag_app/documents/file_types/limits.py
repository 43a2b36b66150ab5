"""What reading one file may take: a budget of time, unpacked bytes and text, spent as it grows."""

import io
import time
from dataclasses import dataclass
from typing import NoReturn

_TICKS = 256
"""Between two looks at the clock, which is a call of the kernel."""

_BOMB_BYTES, _BOMB_RATIO = 20_000_000, 100
"""Unpacked bytes, and how many times those of the file, from which on it is taken for a bomb: the
XML of office files packs to a tenth, nothing but zeros to a thousandth."""


Place = tuple[int, str, str, int]
"""Where a text begins, and where that stands in the file: a name ("" where the headings say it), a
unit ("row", "page", "slide") and a number of it, or "" and 0."""


class UnreadableFileError(Exception):
    """A file that is skipped; the message is the reason in the report."""


@dataclass(frozen=True)
class Limits:
    """The most that one file may take to read.

    Attributes
    ----------
    file_size
        Bytes of the file.
    characters
        Of extracted text.
    unpacked
        Bytes that come out of compressed parts.
    seconds
        Of the reading thread's own processor time, so that a busy machine skips no file.
    memory
        Bytes that a process takes which reads it, besides what it took before.
    ocr, ocr_languages
        What reads pictures ("off", "auto", "tesseract", "rapidocr"), and their languages, as
        Tesseract names them ("eng+deu").
    """

    file_size: int = 50_000_000
    characters: int = 50_000_000
    unpacked: int = 100_000_000
    seconds: float = 25.0
    memory: int = 1_000_000_000
    ocr: str = "off"
    ocr_languages: str = "eng"


def too_large(size: int, most: int) -> str:
    """Say that a file has more bytes than allowed; empty if it has not."""
    if size <= most:
        return ""
    return f"larger than documents.max_file_size_mb = {most / 1e6:g}: {size / 1e6:.1f} MB"


def too_slow(seconds: float) -> str:
    """Say that a file takes longer than allowed."""
    return f"it takes longer than documents.max_seconds = {seconds:g} to read"


class Budget:
    """What is left of a file's `Limits`; every reader spends from it while it reads.

    Attributes
    ----------
    places
        Where in the file stands what was written.
    depth
        How many files the file is in.

    Raises
    ------
    UnreadableFileError
        From any method, when a limit is passed.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._ends = time.thread_time() + limits.seconds
        self._ticks = 0
        # A list, which the parts of a file can share.
        self._unpacked = [0]
        self._before = 0
        self._text = io.StringIO()
        self.places: list[Place] = []
        self.depth = 0

    def part(self) -> "Budget":
        """Return a budget with a text of its own for a file in the file: all else is spent of both.

        What is made of it counts when it is written to this one.
        """
        part = Budget(self.limits)
        part._ends = self._ends
        part._unpacked = self._unpacked
        part.depth = self.depth + 1
        part._before = self._before + self._text.tell()
        return part

    def tick(self) -> None:
        """Check the time now and then; for loops that turn often and do little each time."""
        self._ticks += 1
        if self._ticks % _TICKS == 0:
            self.check_time()

    def check_time(self) -> None:
        """Stop a reader that has had its time; called wherever a file decides how often."""
        if time.thread_time() > self._ends:
            raise UnreadableFileError(too_slow(self.limits.seconds))

    def take_unpacked(self, count: int, file_size: int) -> None:
        """Count bytes that were decompressed from a file of that size."""
        self._unpacked[0] += count
        most = min(self.limits.unpacked, max(_BOMB_BYTES, _BOMB_RATIO * file_size))
        if self._unpacked[0] > most:
            raise UnreadableFileError(f"unpacks to more than {most / 1e6:.3g} MB: a zip bomb?")

    def write(self, text: str) -> None:
        """Append to the file's text."""
        if self._before + self._text.tell() + len(text) > self.limits.characters:
            self.refuse_text()
        self._text.write(text)

    def place(self, name: str, unit: str = "", number: int = 0) -> None:
        """Say where in the file stands what is written next: a row of a sheet, a page."""
        self.places.append((self._text.tell(), name, unit, number))

    def check_text(self, characters: int) -> None:
        """Check the length of text that is kept elsewhere."""
        if self._before + characters > self.limits.characters:
            self.refuse_text()

    def refuse_text(self) -> NoReturn:
        """Say that there is too much text."""
        raise UnreadableFileError(
            f"its text has more than {self.limits.characters / 1e6:g} million characters "
            "(documents.max_file_size_mb)"
        )

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._text.getvalue()
