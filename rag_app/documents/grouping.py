"""Which blocks of a document become a node together, and how those that are too long are cut."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from rag_app.documents.blocks import Block, Kind, Section, header_of

Count = Callable[[str], int]
SplitText = Callable[[str], Iterable[str]]


@dataclass(slots=True)
class Piece:
    """A node to be: a stretch of the document.

    Attributes
    ----------
    start, end
        Where it stands in the text.
    path
        The headings that are above all of it.
    header
        What it repeats: the header of a table that it goes on with.
    """

    start: int
    end: int
    path: tuple[str, ...] = ()
    header: str = ""


@dataclass(slots=True)
class _Part:
    """What is not cut any further.

    Attributes
    ----------
    path
        None for a heading with nothing below it.
    is_cut
        Whether it is a part of something longer: the one before it goes into no node with it.
    """

    start: int
    end: int
    size: int
    path: tuple[str, ...] | None = None
    is_cut: bool = False
    header: str = ""


class Grouper:
    """Makes pieces of at most a size out of sections, and cuts no block that fits.

    Parameters
    ----------
    size, overlap
        Longest piece, and how much of a piece's end the next one may repeat.
    count
        Counts a text in the units of both.
    split
        Splits prose into pieces of at most the size.
    """

    def __init__(self, size: int, overlap: int, count: Count, split: SplitText) -> None:
        self._size = size
        self._overlap = overlap
        self._count = count
        self._split = split

    def pieces(self, text: str, sections: Sequence[Section], *, by_line: bool) -> Iterator[Piece]:
        """Yield pieces in order.

        A section goes together with all that is below it, if that fits. Else it is divided into
        pieces of about the same size, and none goes into another section.

        Parameters
        ----------
        by_line
            Whether what is too long is cut at the ends of lines, not of sentences.
        """
        sized = [list(self._parts(text, section, by_line)) for section in sections]
        totals = [sum(part.size for part in parts) for parts in sized]
        at = 0
        while at < len(sections):
            end = self._reach(sections, totals, at)
            yield from self._pack([part for parts in sized[at:end] for part in parts])
            at = end

    def _reach(self, sections: Sequence[Section], totals: Sequence[int], at: int) -> int:
        """Return where the sections end that go together with one."""
        end, total = at + 1, totals[at]
        # A heading with nothing below it is part of what comes next.
        while end < len(sections) and not sections[end - 1].has_body:
            total += totals[end]
            end += 1
        level, below = sections[at].level, end
        while below < len(sections) and sections[below].level > level > 0 and total <= self._size:
            total += totals[below]
            below += 1
        return below if total <= self._size else end

    def _parts(self, text: str, section: Section, by_line: bool) -> Iterator[_Part]:
        path = section.path if section.has_body else None
        for block in section.blocks:
            size = self._count(text[block.start : block.end])
            if size <= self._size:
                yield _Part(block.start, block.end, size, path)
                continue
            if block.kind is Kind.TABLE:
                parts = self._rows(text, block)
            elif block.kind is Kind.CODE or by_line:
                parts = self._lines(text, block, self._size)
            else:
                parts = self._prose(text, block.start, block.end)
            for part in parts:
                yield replace(part, path=path, is_cut=True)

    def _rows(self, text: str, table: Block) -> Iterator[_Part]:
        """Divide a table; each part but the first is to repeat its header."""
        header = header_of(text[table.start : table.end])
        repeated = self._count(header)
        if 2 * repeated > self._size:
            header, repeated = "", 0
        for part in self._lines(text, table, self._size - repeated):
            is_first = part.start == table.start
            yield part if is_first else replace(part, size=part.size + repeated, header=header)

    def _lines(self, text: str, block: Block, room: int) -> Iterator[_Part]:
        """Yield lines together, as many as there is room for; a longer one is taken for prose."""
        start, at, size = block.start, block.start, 0
        for line in text[block.start : block.end].splitlines(keepends=True):
            own = self._count(line)
            if start < at and size + own > room:
                yield _Part(start, at, size)
                start, size = at, 0
            at += len(line)
            size += own
            if size > room:
                yield from self._prose(text, start, at)
                start, size = at, 0
        if start < at:
            yield _Part(start, at, size)

    def _prose(self, text: str, start: int, end: int) -> Iterator[_Part]:
        at = start
        for piece in self._split(text[start:end]):
            # Behind the start of the one before: overlaps, and repeated text, are there more than
            # once. What the splitter changed is not found, and counts as where that one is.
            found = max(text.find(piece, at, end), at)
            yield _Part(found, min(found + len(piece), end), self._count(piece))
            at = found + 1

    def _pack(self, parts: Sequence[_Part]) -> Iterator[Piece]:
        total = sum(part.size for part in parts)
        number = -(-total // self._size)
        kept: list[_Part] = []
        size = 0
        for part in parts:
            # In pieces of about the same size: the rest of a section is seldom worth a node.
            is_enough = number > 1 and size + part.size / 2 > total / number
            is_apart = part.is_cut and (bool(part.header) or (kept and kept[-1].is_cut))
            if kept and (is_apart or is_enough or size + part.size > self._size):
                yield _piece(kept)
                kept = self._repeated(kept, part)
                size = sum(each.size for each in kept)
            kept.append(part)
            size += part.size
        if kept:
            yield _piece(kept)

    def _repeated(self, kept: Sequence[_Part], part: _Part) -> list[_Part]:
        """Return the end of a piece that the next one, which begins with a part, repeats."""
        room = 0 if part.is_cut else min(self._overlap, self._size - part.size)
        repeated: list[_Part] = []
        for each in reversed(kept[1:]):
            room -= each.size
            if room < 0 or each.is_cut:
                break
            repeated.insert(0, each)
        return repeated


def parents_of(pieces: Sequence[Piece], text: str, most: int) -> list[tuple[int, int] | None]:
    """Tell which pieces belong together: of one section or, without headings, of one paragraph.

    Parameters
    ----------
    pieces
        In order.
    most
        Characters of what belongs together.

    Returns
    -------
    list
        For each piece the positions of the first and the last one; None for one that is alone.
    """
    parents: list[tuple[int, int] | None] = [None] * len(pieces)
    first = 0
    for at in range(1, len(pieces)):
        before, piece = pieces[at - 1], pieces[at]
        gap = text[before.end : piece.start]
        is_one = bool(piece.path) or "\n\n" not in gap
        is_short = piece.end - pieces[first].start <= most and "\f" not in gap
        if before.path == piece.path and is_one and is_short:
            parents[first : at + 1] = [(first, at)] * (at + 1 - first)
        else:
            first = at
    return parents


def _piece(parts: Sequence[_Part]) -> Piece:
    paths = [part.path for part in parts if part.path is not None]
    shared = takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    path = tuple(level[0] for level in shared)
    return Piece(parts[0].start, parts[-1].end, path, parts[0].header)
