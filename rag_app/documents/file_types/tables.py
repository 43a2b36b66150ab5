"""Tables as Markdown, their merged cells filled: what spans several cells holds for each."""

from rag_app.documents.file_types.limits import Budget

_MAX_SPAN = 1000


class Table:
    """Collects cells, and writes each row when it ends.

    Parameters
    ----------
    budget
        Of the file; the table's text is kept here, and counted there.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lines: list[str] = []
        self._kept = 0
        self._cells: list[str] = []
        self._cell: list[str] = []
        self._last: list[str] = []
        self._repeats = False
        self._span = (1, 1)
        # By column: how many rows more a cell from above goes on, and its text.
        self._above: dict[int, tuple[int, str]] = {}

    @property
    def text(self) -> str:
        """The rows so far."""
        return "".join(self._lines)

    def begin_cell(self, columns: int = 1, rows: int = 1) -> None:
        """Begin a cell that goes over several columns and rows."""
        self._fill_from_above()
        self._cell.clear()
        self._span = (max(1, min(columns, _MAX_SPAN)), max(1, min(rows, 10**6)))

    def span(self, columns: int) -> None:
        """Let the cell go over several columns, where that is said within it."""
        self._span = (max(1, min(columns, _MAX_SPAN)), 1)

    def repeat_above(self) -> None:
        """Let the cell be a part of the one above it."""
        self._repeats = True

    def take(self, text: str) -> None:
        """Take text of a cell."""
        self._count(len(text))
        self._cell.append(text)

    def end_cell(self) -> None:
        """End a cell."""
        text = " ".join("".join(self._cell).split()).replace("|", r"\|")
        columns, rows = self._span
        if self._repeats and len(self._cells) < len(self._last):
            text = self._last[len(self._cells)]
        self._repeats = False
        for _ in range(columns):
            self._count(len(text))
            if rows > 1:
                self._above[len(self._cells)] = (rows - 1, text)
            self._cells.append(text)
        self._span = (1, 1)
        self._cell.clear()

    def end_row(self) -> None:
        """Write a row; one that is empty leaves no trace."""
        self._fill_from_above()
        if any(self._cells):
            self._lines.append(f"| {' | '.join(self._cells)} |\n")
            if len(self._lines) == 1:
                self._lines.append("|" + " --- |" * len(self._cells) + "\n")
        self._last = list(self._cells)
        self._cells.clear()

    def _fill_from_above(self) -> None:
        while (at := len(self._cells)) in self._above:
            rows, text = self._above.pop(at)
            if rows > 1:
                self._above[at] = (rows - 1, text)
            self._count(len(text))
            self._cells.append(text)

    def _count(self, characters: int) -> None:
        self._kept += characters
        self._budget.check_text(self._kept)
