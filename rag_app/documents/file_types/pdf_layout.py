"""The runs of a page → its blocks in reading order: headings, paragraphs, items and tables."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from statistics import median

from rag_app.documents.file_types.pdf_tables import (
    Cells,
    aligned_columns,
    is_inside,
    markdown,
    ruled_tables,
)
from rag_app.documents.file_types.pdf_text import Box, Run

_LARGER = 1.12
"""Times the size of the body that a heading has at least."""

_LONGEST_HEADING = 150
_MARGIN = 0.06
"""Share of a page, at both ends of what stands on it, for running heads and page numbers."""

_BULLET = re.compile(r"([•‣◦▪●○■–]|\(?\d{1,2}[.)]|[-*])\s+\S")  # noqa: RUF001
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(slots=True)
class Block:
    """A block of a page.

    Attributes
    ----------
    lines
        Its text by lines, each with the box that it stands in.
    size
        Of its letters, in points.
    is_text
        Whether lines go on from each other; those of a table do not.
    """

    lines: list[tuple[str, Box]]
    size: float
    is_bold: bool = False
    is_text: bool = True

    @property
    def letters(self) -> int:
        """How many characters it has."""
        return sum(len(text) for text, _ in self.lines)


@dataclass(slots=True)
class Page:
    """What stands on a page, before it is put in order."""

    runs: list[Run]
    lines: list[Box] = field(default_factory=list)
    height: float = 0.0


def drop_running_heads(pages: Sequence[Page]) -> None:
    """Leave out what stands at the top or bottom of many pages, but for its numbers."""
    seen: Counter[tuple[str, bool]] = Counter()
    keys: list[dict[int, tuple[str, bool]]] = []
    for page in pages:
        of_page = {}
        top = min((run.middle for run in page.runs), default=0.0) + _MARGIN * page.height
        bottom = max((run.middle for run in page.runs), default=0.0) - _MARGIN * page.height
        for run in page.runs:
            at_top = run.middle < top
            if at_top or run.middle > bottom:
                # Heads of left and right pages differ in where they stand, and in the order.
                of_page[id(run)] = (_DIGITS.sub("#", run.text), at_top)
        seen.update(set(of_page.values()))
        keys.append(of_page)
    often = max(2, 0.3 * len(pages))
    for page, of_page in zip(pages, keys, strict=True):
        page.runs = [
            run for run in page.runs if id(run) not in of_page or seen[of_page[id(run)]] < often
        ]


def blocks_of(page: Page) -> list[Block]:
    """Return the blocks of a page in reading order."""
    runs = [run for run in page.runs if not run.is_sideways]
    tables = ruled_tables(page.lines, runs)
    boxes = [box for box, _ in tables]
    outside = [run for run in runs if not is_inside(run, boxes)]
    # A table takes its place among the runs as one that nothing is beside.
    places = [Run("", box, 0.0) for box in boxes]
    stands_for = {
        id(place): Block([(line, box) for line in markdown(cells).split("\n")], 0.0, is_text=False)
        for place, (box, cells) in zip(places, tables, strict=True)
    }
    upright = [
        block
        for region in _regions([*outside, *places])
        for block in _blocks_of_region(region, stands_for)
    ]
    # Text that stands on end has no place between lines.
    return upright + [_block([run]) for run in page.runs if run.is_sideways and run.text.strip()]


def _regions(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Divide runs at gutters: what is left of one comes before what is right of it."""
    gutter = _gutter(runs)
    if gutter is None:
        if runs:
            yield sorted(runs, key=lambda run: run.box[1])
        return
    spanning = sorted(
        (run for run in runs if run.box[0] < gutter - 1 and run.box[2] > gutter + 1),
        key=lambda run: run.middle,
    )
    sides = [run for run in runs if run.box[0] >= gutter - 1 or run.box[2] <= gutter + 1]
    top = float("-inf")
    for each in [*spanning, None]:
        bottom = each.middle if each else float("inf")
        band = [run for run in sides if top < run.middle <= bottom]
        yield from _regions([run for run in band if run.box[2] <= gutter + 1])
        yield from _regions([run for run in band if run.box[2] > gutter + 1])
        if each:
            yield [each]
        top = bottom


def _gutter(runs: Sequence[Run]) -> float | None:
    """Return where a column begins that has another one beside it, if there is one."""
    if len(runs) < 8:
        return None
    left_edge = min(run.box[0] for run in runs)
    right_edge = max(run.box[2] for run in runs)
    width = right_edge - left_edge
    starts = Counter(round(run.box[0]) for run in runs)
    best: tuple[float, float] | None = None
    for start, number in starts.items():
        x = start - 1.0
        if number < 3 or not left_edge + 0.2 * width < x < left_edge + 0.8 * width:
            continue
        left = [run for run in runs if run.box[2] <= x + 1]
        right = [run for run in runs if run.box[0] >= x - 1]
        spanning = len(runs) - len(left) - len(right)
        if min(len(left), len(right)) < 4 or spanning > 0.4 * len(runs):
            continue
        if not (_is_column(left) and _is_column(right)):
            continue
        if best is None or (spanning, start) < best:
            best = (spanning, start)
    return None if best is None else best[1] - 0.5


def _is_column(runs: Sequence[Run]) -> bool:
    """Whether runs are lines of text, in one column or more, rather than the cells of a table."""
    start, end = min(run.box[0] for run in runs), max(run.box[2] for run in runs)
    covered = [sum(run.box[2] - run.box[0] for run in row) for row in _rows(runs)]
    return median(covered) > 0.5 * (end - start) and median(len(run.text) for run in runs) > 15


def _rows(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs together that stand beside each other, from left to right, top to bottom."""
    rows: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.middle):
        # With the first one: lines of columns that are a little apart would form a chain.
        _, top, _, bottom = rows[-1][0].box if rows else run.box
        overlap = min(bottom, run.box[3]) - max(top, run.box[1])
        if rows and overlap > 0.5 * min(bottom - top, run.box[3] - run.box[1]):
            rows[-1].append(run)
        else:
            rows.append([run])
    return [_joined(sorted(row, key=lambda run: run.box[0])) for row in rows]


def _joined(row: Sequence[Run]) -> list[Run]:
    """Join runs without a gap between them, such as a number set higher."""
    joined: list[Run] = [row[0]]
    for run in row[1:]:
        last = joined[-1]
        gap = run.box[0] - last.box[2]
        if run.text and last.text and gap < max(last.size, run.size):
            space = " " if gap > 0.15 * max(last.size, run.size) else ""
            box = _around([last.box, run.box])
            is_bold = last.is_bold and run.is_bold
            text = f"{last.text}{space}{run.text}"
            size = max(last, run, key=lambda run: len(run.text)).size
            joined[-1] = Run(text, box, size, is_bold)
        else:
            joined.append(run)
    return joined


def _around(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _blocks_of_region(runs: Sequence[Run], tables: dict[int, Block]) -> Iterator[Block]:
    lines: list[Run] = []
    for many, group in groupby(_rows(runs), key=lambda row: len(row) > 1):
        rows = list(group)
        cells = aligned_columns(rows) if many else None
        if cells:
            yield from _paragraphs(lines)
            lines = []
            yield _aligned_table(rows, cells)
            continue
        for row in rows:
            if table := tables.get(id(row[0])):
                yield from _paragraphs(lines)
                lines = []
                yield table
            else:
                lines.append(_line(row))
    yield from _paragraphs(lines)


def _aligned_table(rows: Sequence[Sequence[Run]], cells: Cells) -> Block:
    boxes = [_around([run.box for run in row]) for row in rows]
    # The rule below the header stands where the header does.
    places = zip(markdown(cells).split("\n"), [boxes[0], *boxes], strict=True)
    return Block(list(places), rows[0][0].size, is_text=False)


def _line(row: Sequence[Run]) -> Run:
    return Run(
        " ".join(run.text for run in row),
        _around([run.box for run in row]),
        max(row, key=lambda run: len(run.text)).size,  # not that of a bullet, or of an initial
        all(run.is_bold for run in row),
    )


def _paragraphs(lines: Sequence[Run]) -> Iterator[Block]:
    lines = [line for line in lines if line.text.strip()]
    if not lines:
        return
    edge = max(line.box[2] for line in lines)
    width = edge - min(line.box[0] for line in lines)
    pitches = [other.middle - one.middle for one, other in pairwise(lines)]
    pitch = median(pitches) if pitches else 0.0
    kept = [lines[0]]
    for one, other in pairwise(lines):
        high = max(one.size, other.size)
        is_apart = (
            other.middle - one.middle > max(1.3 * min(pitch, 2 * high), 1.1 * high)
            or abs(one.size - other.size) > 0.08 * high
            or one.is_bold != other.is_bold
            or _BULLET.match(other.text) is not None
            # The last line of a paragraph is short, and the next one is set in.
            or (one.box[2] < edge - 0.1 * width and one.text[-1:] in ".!?:")
        )
        if is_apart:
            yield _block(kept)
            kept = []
        kept.append(other)
    yield _block(kept)


def _block(lines: Sequence[Run]) -> Block:
    size = max(line.size for line in lines)
    is_bold = all(line.is_bold for line in lines)
    return Block([(line.text, line.box) for line in lines], size, is_bold)


class Headings:
    """Tells the headings of a document by their size, and by bold letters.

    Parameters
    ----------
    blocks
        Of the whole document.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        blocks = [block for block in blocks if block.is_text]
        letters: Counter[float] = Counter()
        for block in blocks:
            letters[_half_points(block.size)] += block.letters
        self._body = letters.most_common(1)[0][0] if letters else 0.0
        sizes = {
            _half_points(block.size)
            for block in blocks
            if block.size > _LARGER * self._body and _may_be_heading(block)
        }
        self._sizes = sorted(sizes, reverse=True)[:5]

    def level(self, block: Block) -> int:
        """Return the level of a heading, from 1; 0 for what is none."""
        if not block.is_text or not _may_be_heading(block):
            return 0
        size = _half_points(block.size)
        if size in self._sizes:
            return self._sizes.index(size) + 1
        is_set_off = block.is_bold and len(block.lines) < 3 and block.size >= 0.95 * self._body
        return len(self._sizes) + 1 if is_set_off and block.lines[-1][0][-1:] not in ".,;:" else 0


def _half_points(size: float) -> float:
    return round(2 * size) / 2


def _may_be_heading(block: Block) -> bool:
    text = block.lines[0][0]
    return (
        block.letters <= _LONGEST_HEADING
        and len(block.lines) <= 4
        and len(_LETTER.findall(text[:200])) >= 3
        and text[:1] not in "•▪"
    )
