"""Where in its file a node stands, beyond its headings: rows of a sheet, pages of an attachment."""

from bisect import bisect
from collections.abc import Sequence
from typing import Any


class Places:
    """The places that a reader noted (`rag_app.documents.file_types.limits.Budget.place`).

    Parameters
    ----------
    places
        Start in the text, name, unit and number of each, in order. Rows are counted on from there:
        each is a line.
    text
        The whole one.
    """

    def __init__(self, places: Sequence[Sequence[Any]], text: str) -> None:
        self._places = places
        self._text = text
        self._starts: list[int] = [place[0] for place in places]

    def between(self, start: int, end: int) -> list[str]:
        """Return the place of a stretch of the text in words: ["Costs", "rows 4-9"]."""
        first = max(bisect(self._starts, start) - 1, 0)
        last = bisect(self._starts, end - 1) - 1
        # A node may begin before its place does, with a heading.
        there = [at for at in range(first, last + 1) if any(self._places[at][1:3])]
        if not there:
            return []
        name, unit, number = self._at(there[0], max(start, self._starts[there[0]]))
        last_name, last_unit, last = self._at(there[-1], self._end_of(there[-1], end))
        said = [name] if name else []
        if unit and (last_name, last_unit) == (name, unit) and last > number:
            said.append(f"{unit}s {number}-{last}")
        elif unit:
            said.append(f"{unit} {number}")
        return said

    def _end_of(self, at: int, end: int) -> int:
        following: int = self._starts[at + 1] if at + 1 < len(self._starts) else end
        return max(min(following, end) - 1, self._starts[at])

    def _at(self, at: int, position: int) -> tuple[str, str, int]:
        start, name, unit, number = self._places[at]
        further = self._text.count("\n", start, position) if unit == "row" else 0
        return name, unit, number + further
