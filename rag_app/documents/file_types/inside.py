"""Files in files, as attachments and members of archives are: read by the readers of their types.

What is inside spends from the budget of what is around it, and stands below a heading with its
name, its own headings below that; its pages and rows are told as places.
"""

import logging
import re
import tempfile
from pathlib import Path, PurePosixPath

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

MAX_DEPTH = 5
"""Of files in files in files."""

_MAX_NAME = 200
_PAGES = {"pdf": "page", "pptx": "slide", "odp": "slide"}
"""What stands between page breaks, by type; sheets tell their rows instead."""

_HEADING = re.compile(r"(#{1,6})(?=[ \t])")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")

_log = logging.getLogger(__name__)


def write_inside(budget: Budget, name: str, data: bytes, what: str = "") -> bool:
    """Read what is inside as its own type, and write it below its name.

    What cannot be read is left out with a warning, and nothing of it is written.

    Parameters
    ----------
    what
        Before the name in the heading and in warnings, e.g. "Attachment: ".

    Returns
    -------
    bool
        Whether something was written.

    Raises
    ------
    UnreadableFileError
        If the budget of what is around is spent.
    """
    name = one_line(name)
    part = budget.part()
    try:
        if part.depth > MAX_DEPTH:
            raise UnreadableFileError(f"it is in more than {MAX_DEPTH} others")
        kind, text = _read(name, data, part)
    except MemoryError:
        raise
    except UnreadableFileError as error:
        _leave_out(budget, what, name, str(error))
        return False
    except RecursionError:
        _leave_out(budget, what, name, "nested too deep to be read")
        return False
    except Exception as error:  # as for the file itself: nothing in one may cost the others
        _leave_out(budget, what, name, f"truncated or damaged: {one_line(str(error))}")
        return False
    budget.write(f"\n## {what}{name}\n\n")
    _write_text(budget, kind, text, part)
    return True


def one_line(text: str) -> str:
    """Return a name in one line, without what would begin a heading's own path."""
    line = " ".join(text.replace("\\", "/").split())
    return line if len(line) <= _MAX_NAME else f"…{line[1 - _MAX_NAME :]}"


def _leave_out(budget: Budget, what: str, name: str, reason: str) -> None:
    # Time that is spent is spent for all: the next one would only say so again.
    budget.check_time()
    kind = what.rstrip(": ").lower() or "file"
    _log.warning("the %s %s is left out: %s", kind, name, reason)


def _read(name: str, data: bytes, part: Budget) -> tuple[str, str]:
    suffixes = PurePosixPath(name).suffixes[-2:]
    suffix = "".join(suffixes) if suffixes[:1] == [".tar"] else "".join(suffixes[-1:])
    with tempfile.TemporaryDirectory(prefix="rag_app-") as folder:
        # Readers take a path. Of the sender's name there is only the
        # suffix in it: names lead anywhere.
        file = Path(folder, f"inside{suffix[:20]}")
        file.write_bytes(data)
        return FileReader.read_inside(file, part)


def _write_text(budget: Budget, kind: str, text: str, part: Budget) -> None:
    """Write the text in stretches, each with its place."""
    text = text.rstrip()
    if kind == "code":
        budget.write(f"```\n{text}\n```\n")
        return
    places = [(start, unit, number) for start, _, unit, number in part.places]
    if unit := _PAGES.get(kind):
        breaks = [-1, *(at for at, character in enumerate(text) if character == "\f")]
        places = [(at + 1, unit, number) for number, at in enumerate(breaks, start=1)]
    lower = _Lower()
    starts = [0, *(start for start, _, _ in places), len(text)]
    for at, start in enumerate(starts[:-1]):
        if at:
            budget.place("", *places[at - 1][1:])
        budget.write(lower.headings(text[start : starts[at + 1]].replace("\f", "\n")))
    budget.write("\n")
    if places:
        budget.place("")


class _Lower:
    """Moves headings two levels down, stretch by stretch; code in fences stays."""

    def __init__(self) -> None:
        self._fence = ""

    def headings(self, text: str) -> str:
        """Return the next stretch of a text with its headings lower."""
        lines = text.split("\n")
        for at, line in enumerate(lines):
            if mark := _FENCE.match(line):
                if not self._fence:
                    self._fence = mark[1]
                elif mark[1].startswith(self._fence):
                    self._fence = ""
            elif not self._fence and (heading := _HEADING.match(line)):
                lines[at] = "#" * min(len(heading[1]) + 2, 6) + line[heading.end() :]
        return "\n".join(lines)
