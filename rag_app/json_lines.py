"""Files of JSON Lines that grow as results come; a killed process's are read and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rag_app.errors import InputError

T = TypeVar("T")


def read_own_lines(
    path: Path, begins: str, parse: Callable[[dict[str, Any]], T], *, what: str, remedy: str
) -> list[T]:
    """Read a file that an earlier run wrote, and cut off a last line that it did not finish.

    A last line that only lacks its line end is whole. A file that holds anything else, or that does
    not begin with a whole line, is somebody else's, and stays as it is.

    Parameters
    ----------
    begins
        What each line begins with, e.g. '{"line": '.
    parse
        Makes a result of a line's object; raises `ValueError`, `TypeError`, `KeyError` or
        `AttributeError` if it is none.
    what
        What the file should hold, for the message, e.g. "answers".

    Raises
    ------
    InputError
        If the file is somebody else's, or cannot be read or mended.
    """
    found: list[T] = []
    start = begins.encode()
    whole = 0
    try:
        if not path.is_file():  # not there yet, or a pipe or a terminal
            return found
        with path.open("rb") as file:  # as bytes: a torn line may end within a character
            while head := file.read(len(start)):
                line, result = head, None
                if start.startswith(head):  # else no more is read: the line may be the whole file
                    line += file.readline()
                    result = _parsed(line, parse)
                if result is None:
                    # Behind a whole line alone: a foreign file of one torn line would be emptied.
                    if found and start.startswith(head) and not line.endswith(b"\n"):
                        break  # killed while it was being written
                    raise InputError(
                        f"{path} is there already, and holds something else than {what}", remedy
                    )
                found.append(result)
                whole += len(line)
        if found:
            _mend(path, whole)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}", remedy) from error
    return found


def _parsed(line: bytes, parse: Callable[[dict[str, Any]], T]) -> T | None:
    try:
        return parse(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # the last of these: nested too deeply


def _mend(path: Path, whole: int) -> None:
    """Let a file end with its last whole line, and that one with a line end."""
    with path.open("r+b") as file:
        file.seek(whole - 1)
        ends = file.read(1) == b"\n"
        file.truncate(whole)
        if not ends:
            file.seek(whole)
            file.write(b"\n")
