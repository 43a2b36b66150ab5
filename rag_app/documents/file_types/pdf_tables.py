"""Tables of a page: ruled ones by their lines, others by columns that stay where they are."""

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from rag_app.documents.file_types.pdf_text import Box, Run

_NEAR = 3.0
"""Points that lines of one table may miss each other by."""

_LEAST_ROWS = 3
"""Of a table without lines; two rows with two words each may be anything."""

_MAX_LINES = 600
"""Different lines of a page; what has more is a drawing."""

_LONGEST = 40
"""Characters of most cells of a table without lines; what has more is text in columns."""

Cells = list[list[str]]


def ruled_tables(lines: Iterable[Box], runs: Sequence[Run]) -> list[tuple[Box, Cells]]:
    """Return the tables that are drawn with lines, each with its box."""
    across = _merged((y0, x0, x1) for x0, y0, x1, y1 in lines if x1 - x0 > y1 - y0)
    down = _merged((x0, y0, y1) for x0, y0, x1, y1 in lines if y1 - y0 > x1 - x0)
    if not across or not down or len(across) + len(down) > _MAX_LINES:
        return []
    tables = []
    for columns, rows in _connected(across, down):
        xs = _distinct([*(x for x, *_ in columns), *(end for _, *ends in rows for end in ends)])
        ys = _distinct([*(y for y, *_ in rows), *(end for _, *ends in columns for end in ends)])
        if len(xs) < 3 or len(ys) < 3:
            continue
        box = (xs[0], ys[0], xs[-1], ys[-1])
        cells = _fill(xs, ys, [run for run in runs if _is_in(run, box)])
        filled = sum(bool(cell) for row in cells for cell in row)
        if len(cells) > 1 and len(cells[0]) > 1 and filled > len(cells):
            tables.append((box, cells))
    return tables


def aligned_columns(rows: Sequence[Sequence[Run]]) -> Cells | None:
    """Return the cells of rows without lines, if their runs stand in columns; else None."""
    if len(rows) < _LEAST_ROWS or median(len(run.text) for row in rows for run in row) > _LONGEST:
        return None
    spans: list[list[float]] = []
    for x0, x1 in sorted((run.box[0], run.box[2]) for row in rows for run in row):
        if spans and x0 < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], x1)
        else:
            spans.append([x0, x1])
    if len(spans) < 2:
        return None
    starts = [start for start, _ in spans]
    cells = []
    for row in rows:
        line = [""] * len(spans)
        for run in row:
            at = bisect(starts, run.box[0]) - 1
            line[at] = f"{line[at]} {run.text}".strip()
        cells.append(line)
    return cells


def markdown(cells: Cells) -> str:
    """Return a table as Markdown, its first row as the header."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
    return "\n".join([lines[0], f"|{' --- |' * len(cells[0])}", *lines[1:]])


def _is_in(run: Run, box: Box) -> bool:
    middle = (run.box[0] + run.box[2]) / 2
    return box[0] <= middle <= box[2] and box[1] <= run.middle <= box[3]


def is_inside(run: Run, boxes: Iterable[Box]) -> bool:
    """Whether a run stands in one of these boxes."""
    return any(_is_in(run, box) for box in boxes)


def _fill(xs: Sequence[float], ys: Sequence[float], runs: Sequence[Run]) -> Cells:
    cells = [[""] * (len(xs) - 1) for _ in range(len(ys) - 1)]
    for run in sorted(runs, key=lambda run: (round(run.middle / 3), run.box[0])):
        column = bisect(xs, (run.box[0] + run.box[2]) / 2, hi=len(xs) - 1) - 1
        row = bisect(ys, run.middle, hi=len(ys) - 1) - 1
        cells[row][column] = f"{cells[row][column]} {run.text}".strip()
    # Double lines have nothing between them.
    used = [at for at in range(len(xs) - 1) if any(row[at] for row in cells)]
    return [[row[at] for at in used] for row in cells if any(row)] if used else []


def _merged(lines: Iterable[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Join lines of one direction that go on from each other: place, start, end."""
    merged: list[tuple[float, float, float]] = []
    for at, start, end in sorted((round(at), start, end) for at, start, end in lines):
        if merged and merged[-1][0] == at and start <= merged[-1][2] + _NEAR:
            merged[-1] = (at, merged[-1][1], max(merged[-1][2], end))
        else:
            merged.append((at, start, end))
    return merged


Line = tuple[float, float, float]


def _connected(across: Sequence[Line], down: Sequence[Line]) -> list[tuple[list[Line], list[Line]]]:
    """Return the lines that meet, table by table: those that go down, and those across."""
    groups: list[tuple[list[Line], list[Line]]] = []
    left = list(down)
    while left:
        columns, rows = [left.pop()], []
        others = list(across)
        grew = True
        while grew:
            met = [row for row in others if any(_meet(row, column) for column in columns)]
            others = [row for row in others if row not in met]
            rows += met
            more = [column for column in left if any(_meet(row, column) for row in met)]
            left = [column for column in left if column not in more]
            columns += more
            grew = bool(more)
        if rows:
            groups.append((columns, rows))
    return groups


def _meet(row: Line, column: Line) -> bool:
    y, x0, x1 = row
    x, y0, y1 = column
    return x0 - _NEAR <= x <= x1 + _NEAR and y0 - _NEAR <= y <= y1 + _NEAR


def _distinct(places: Iterable[float]) -> list[float]:
    ordered = sorted(places)
    first = ordered[:1]
    return first + [other for one, other in pairwise(ordered) if other - one > _NEAR]
