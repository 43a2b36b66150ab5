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
        self._starts = [place[0] for place in places]

    def between(self, start: int, end: int) -> list[str]:
        """Return the place of a stretch of the text in words: ["Costs", "rows 4-9"]."""
        if not self._starts or start < self._starts[0]:
            return []
        name, unit, number = self._at(start)
        last_name, last_unit, last = self._at(max(end - 1, start))
        said = [name] if name else []
        if unit and (last_name, last_unit) == (name, unit) and last > number:
            said.append(f"{unit}s {number}-{last}")
        elif unit:
            said.append(f"{unit} {number}")
        return said

    def _at(self, position: int) -> tuple[str, str, int]:
        start, name, unit, number = self._places[bisect(self._starts, position) - 1]
        further = self._text.count("\n", start, position) if unit == "row" else 0
        return name, unit, number + further
