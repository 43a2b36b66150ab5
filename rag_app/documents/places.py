"""Where in its file a node stands, beyond its headings: rows of a sheet, pages of an attachment."""

from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

from rag_app.documents.blocks import Block, Kind, Section
from rag_app.schema import HEADING_SEPARATOR


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
        if unit == last_unit == "line":
            # Definitions beside each other: what is around them, or the first one.
            both = zip(
                name.split(HEADING_SEPARATOR), last_name.split(HEADING_SEPARATOR), strict=False
            )
            shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both)]
            name = last_name = HEADING_SEPARATOR.join(shared) or name
        said = [name] if name else []
        if unit and (last_name, last_unit) == (name, unit) and last > number:
            said.append(f"{unit}s {number}-{last}")
        elif unit:
            said.append(f"{unit} {number}")
        return said

    @property
    def are_there(self) -> bool:
        """Whether there is any."""
        return bool(self._starts)

    def sections(self, part: str, offset: int) -> list[Section]:
        """Return what begins at each place in a part of the text as a section, by its depth.

        A definition goes together with those in it, if that fits.
        """
        ends = offset + len(part)
        first = max(bisect(self._starts, offset) - 1, 0)
        last = bisect(self._starts, ends - 1)
        starts = [offset, *(at for at in self._starts[first:last] if at > offset), ends]
        found = []
        for start, end in pairwise(starts):
            name = self._places[max(bisect(self._starts, start) - 1, 0)][1]
            text = part[start - offset : end - offset]
            bare = text.strip("\n")
            if bare.strip():
                begin = start - offset + text.index(bare)
                block = Block(Kind.PARAGRAPH, begin, begin + len(bare))
                level = name.count(HEADING_SEPARATOR) + 1 if name else 0
                found.append(Section((), level, [block]))
        return found

    def _end_of(self, at: int, end: int) -> int:
        following: int = self._starts[at + 1] if at + 1 < len(self._starts) else end
        return max(min(following, end) - 1, self._starts[at])

    def _at(self, at: int, position: int) -> tuple[str, str, int]:
        start, name, unit, number = self._places[at]
        further = self._text.count("\n", start, position) if unit in {"row", "line"} else 0
        return name, unit, number + further
