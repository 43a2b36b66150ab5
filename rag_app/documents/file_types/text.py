"""Readers of plain text, source code and Markdown."""

from pathlib import Path

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget
from rag_app.documents.file_types.markup import without_markup


class TextReader(FileReader):
    """Plain text and source code, as they are."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the file's text."""
        return text_of(file), None


class MarkdownReader(FileReader):
    """Markdown as it is, less front matter and HTML; the title is the former's or the first "#"."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text behind the front matter, and the title."""
        text = text_of(file)
        front, text = _split_front_matter(text)
        titles = (line.removeprefix("title:") for line in front if line.startswith("title:"))
        title = _unquoted(next(titles, ""))
        text = without_markup(text)
        return text, title or first_heading(text)


def _split_front_matter(text: str) -> tuple[list[str], str]:
    """Return the lines between a first line "---" and the next one, and the rest."""
    if not text.startswith("---"):
        return [], text
    lines = text.split("\n")
    if lines[0].rstrip(" \t") != "---":
        return [], text
    for number, line in enumerate(lines[1:-1], start=1):
        if line.startswith("---") and line.rstrip(" \t") == "---":
            return lines[1:number], "\n".join(lines[number + 1 :])
    return [], text


def _unquoted(value: str) -> str:
    """Return a one-line value of YAML without the quotes around it."""
    value = value.strip()
    if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
        return value[1:-1].strip()
    return value


def first_heading(text: str) -> str | None:
    """Return Markdown's first "#", comments in fenced code left out."""
    fence = ""
    for line in text.split("\n"):
        mark = line.lstrip(" ")
        if fence:
            if mark.startswith(fence):
                fence = ""
        elif mark.startswith(("```", "~~~")):
            fence = mark[: len(mark) - len(mark.lstrip(mark[0]))]
        elif line.startswith(("# ", "#\t")) and (heading := line[1:].rstrip(" \t#").strip()):
            return heading
    return None
