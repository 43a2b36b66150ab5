"""Reader of AsciiDoc (the language of Asciidoctor), as Markdown."""

import re
from pathlib import Path

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget
from rag_app.documents.file_types.tables import Table
from rag_app.documents.file_types.text import first_heading

_HEADING = re.compile(r"(={1,6}|#{1,6})\s+(\S.*)$")
_ATTRIBUTE = re.compile(r":!?[\w-]{1,100}!?:(?:\s|$)")
_STYLE = re.compile(r"\[([^\]]{0,500})\]\s*$")
_BLOCK = re.compile(r"(-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|--|```+)\s*\w*\s*$")
_ITEM = re.compile(r"\s*([*\-]{1,5}|\.{1,5})\s+(\S.*)$")
_MACRO = re.compile(r"(?:image|include|video|audio|toc|ifdef|ifndef|endif|ifeval)::?\S*\[[^\]]*\]")
_LINK = re.compile(r"(?:(?:link|xref|mailto):[^\s\[]{1,1000}|https?://[^\s\[]{1,1000})\[([^\]]*)\]")
_REFERENCE = re.compile(r"<<[^<>,]{1,300}(?:,([^<>]{1,300}))?>>")
_CELL = re.compile(r"(?:^|\s)(?:\d+\+|\.\d+\+)?[<^>.]*[a-z]?\|", re.MULTILINE)


class AsciiDocReader(FileReader):
    """Headings, lists, code and tables as Markdown; comments, attributes and pictures go."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the first heading."""
        _AsciiDoc(budget).write(text_of(file).split("\n"))
        text = budget.text.strip("\n")
        return text, first_heading(text)


class _AsciiDoc:
    """Goes through the lines once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._style = ""

    def write(self, lines: list[str]) -> None:
        at = 0
        while at < len(lines):
            self._budget.tick()
            line = lines[at].rstrip()
            at += 1
            if line.startswith("|==="):
                end = next((n for n in range(at, len(lines)) if lines[n].startswith("|===")), None)
                if end is not None:
                    self._table(lines[at:end])
                    at = end + 1
                continue
            if found := _BLOCK.match(line):
                at = self._block(lines, at, found[1])
            elif found := _STYLE.match(line):
                self._style = found[1]
            elif not (_ATTRIBUTE.match(line) or line.startswith("//")):
                self._line(line)

    def _line(self, line: str) -> None:
        if found := _HEADING.match(line):
            self._budget.write(f"{'#' * len(found[1])} {_plain(found[2])}\n")
        elif found := _ITEM.match(line):
            mark = "1." if found[1][0] == "." else "-"
            depth = len(found[1]) - 1 if found[1][0] != "-" else 0
            self._budget.write(f"{'  ' * depth}{mark} {_plain(found[2])}\n")
        elif line.startswith(".") and len(line) > 1 and line[1] not in ". ":
            self._budget.write(f"{_plain(line[1:])}\n")  # the title of a block
        elif line != "+":
            self._budget.write(f"{_plain(line)}\n")
        if line:
            self._style = ""

    def _block(self, lines: list[str], at: int, mark: str) -> int:
        """Write a delimited block: code and literals whole, a comment not, others as text."""
        end = next((n for n in range(at, len(lines)) if lines[n].rstrip() == mark), None)
        if end is None:
            return at  # never closed: its first line alone is dropped
        inside = lines[at:end]
        style, self._style = self._style, ""
        if mark[0] in "-.`+" and (mark != "--" or style.startswith(("source", "listing"))):
            parts = style.split(",")
            language = parts[1].strip() if len(parts) > 1 and parts[0] == "source" else ""
            code = "\n".join(inside)
            if code.strip():
                self._budget.write(f"```{language}\n{code}\n```\n")
        elif mark[0] != "/":
            self.write(inside)
        return end + 1

    def _table(self, lines: list[str]) -> None:
        """Write a table: a row is a line of cells, or as many cells as the first line has."""
        table = Table(self._budget)
        rows = [_CELL.split(line)[1:] for line in lines if line.strip()]
        wide = len(rows[0]) if rows else 0
        cells: list[str] = []
        for line, row in zip([line for line in lines if line.strip()], rows, strict=True):
            if not row and cells:
                cells[-1] += f" {line}"
            cells += row
        for number, cell in enumerate(cells):
            table.begin_cell()
            table.take(_plain(cell))
            table.end_cell()
            if (number + 1) % wide == 0:
                table.end_row()
        table.end_row()
        self._budget.write(f"\n{table.text}\n")


def _plain(text: str) -> str:
    text = _LINK.sub(r"\1", _MACRO.sub("", text))
    return _REFERENCE.sub(lambda found: found[1] or "", text)
