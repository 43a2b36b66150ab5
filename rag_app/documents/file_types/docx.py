"""Reader of Word documents."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target, name_of
from rag_app.documents.file_types.tables import Table

_BODY = "word/document.xml"


class DocxReader(FileReader):
    """A Word document as Markdown: headings, lists, tables; heads, feet, notes, comments."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the paragraphs, and the title of the file's properties."""
        otherwise = "encrypted, or an old .doc: save it as a plain .docx"
        with Package(file, budget, "Word document", otherwise) as package:
            # Some programs number it.
            body = [_BODY] if _BODY in package else package.names("word/document")
            body = [name for name in body if name.endswith(".xml")][:1]
            if not body:
                raise UnreadableFileError(f"no Word document: there is no {_BODY} in it")
            styles = _Styles()
            package.parse("word/styles.xml", styles)
            for name in [
                *package.names("word/header"),
                *body,
                *package.names("word/footnotes"),
                *package.names("word/endnotes"),
                *package.names("word/footer"),
            ]:
                package.parse(name, _WordText(budget, styles.levels))
            package.parse("word/comments.xml", _Comments(budget))
            return budget.text.strip(), package.title()


class _Styles(Target):
    """Keeps which styles are headings, and of which level; users may have renamed them."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: dict[str, int] = {}
        self._style = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a style's name, which Word writes in English, or its level in the outline."""
        super().start(tag, attributes)
        name = _word_name(tag)
        if name == "style":
            self._style = _attribute(attributes, "styleId")
        elif name == "name" and (level := _level(_attribute(attributes, "val"))):
            self.levels[self._style] = level
        # Only where the name says nothing: a style's level in the outline may be any.
        elif name == "outlineLvl" and (number := _attribute(attributes, "val")) in set("012345678"):
            self.levels.setdefault(self._style, int(number) + 1)


class _WordText(Target):
    """Writes the text of WordprocessingML's runs; empty paragraphs leave no trace."""

    def __init__(self, budget: Budget, levels: Mapping[str, int]) -> None:
        super().__init__()
        self._budget = budget
        self._levels = levels
        self._runs = 0
        self._in_text = False
        self._ended = True
        self._before = ""
        self._list_level = 0
        self._tables = 0
        self._table = Table(budget)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a paragraph, a run, a table or what stands in it."""
        super().start(tag, attributes)
        name = _word_name(tag)
        if name == "p":
            self._end_paragraph()
        elif name == "r":
            self._runs += 1
        elif name == "t":
            self._in_text = True
        # Outside of a run it is a tab stop of the paragraph, and no text.
        elif self._runs and name == "tab":
            self._write("\t")
        elif self._runs and name in {"br", "cr"}:
            self._write("\n")
        elif name == "pStyle" and (level := self._levels.get(_attribute(attributes, "val"))):
            self._before = f"{'#' * min(level, 6)} "
        elif name == "ilvl":
            number = _attribute(attributes, "val")
            self._list_level = int(number) if number in set("012345678") else 0
        # 0 takes a paragraph out of the list that its style puts it in.
        elif name == "numId" and not self._before and _attribute(attributes, "val") != "0":
            self._before = f"{'  ' * self._list_level}- "
        elif name == "tbl":
            self._end_paragraph()
            self._tables += 1
            if self._tables == 1:
                self._table = Table(self._budget)
        elif self._tables == 1 and name == "tc":
            self._table.begin_cell()
        elif self._tables == 1 and name == "gridSpan":
            self._table.span(_number(_attribute(attributes, "val")))
        elif self._tables == 1 and name == "vMerge" and _attribute(attributes, "val") != "restart":
            self._table.repeat_above()

    def end(self, tag: str) -> None:
        """End a run, its text, a cell, a row or a table."""
        super().end(tag)
        name = _word_name(tag)
        if name == "r":
            self._runs -= 1
        elif name == "t":
            self._in_text = False
        elif name == "tbl":
            self._tables -= 1
            if not self._tables:
                self._budget.write(f"{self._table.text}\n")
        # Markdown has no table in a table: what is in an inner one is text of the outer cell.
        elif self._tables == 1 and name == "tc":
            self._table.end_cell()
        elif self._tables == 1 and name == "tr":
            self._table.end_row()

    def data(self, data: str) -> None:
        """Take a run's text."""
        if self._in_text:
            self._write(data)

    def close(self) -> None:
        """End the last paragraph."""
        self._end_paragraph()

    def _write(self, text: str) -> None:
        if self._tables:
            self._table.take(text)
            return
        if self._before:
            self._budget.write(self._before)
            self._before = ""
        self._budget.write(text)
        self._ended = False

    def _end_paragraph(self) -> None:
        self._before, self._list_level = "", 0
        if self._tables:
            self._table.take(" ")
        elif not self._ended:
            self._budget.write("\n\n")
            self._ended = True


class _Comments(Target):
    """Writes comments, each with who made it."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._author = ""
        self._pieces: list[str] = []
        self._in_text = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a comment or its text."""
        super().start(tag, attributes)
        name = _word_name(tag)
        if name == "comment":
            self._author = " ".join(_attribute(attributes, "author").split())[:100]
        elif name == "p":
            self._pieces.append(" ")
        self._in_text = name == "t"

    def end(self, tag: str) -> None:
        """End it."""
        super().end(tag)
        self._in_text = False
        if _word_name(tag) == "comment":
            said = " ".join("".join(self._pieces).split())
            self._pieces.clear()
            by = f" by {self._author}" if self._author else ""
            self._budget.write(f"[Comment{by}: {said}]\n\n" if said else "")

    def data(self, data: str) -> None:
        """Take text."""
        if self._in_text:
            self._budget.check_text(len(data))
            self._pieces.append(data)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 1


def _level(name: str) -> int:
    """Return the level of a heading by the name of its style, else 0."""
    found = re.fullmatch(r"heading ([1-9])", name.lower())
    return int(found[1]) if found else int(name.lower() == "title")


def _attribute(attributes: Mapping[str, str], name: str) -> str:
    """Return an attribute of WordprocessingML's."""
    return next((value for key, value in attributes.items() if name_of(key) == name), "")


# Tags are few and come without end; bounded, as a file can make up as many as it likes.
@lru_cache(maxsize=1000)
def _word_name(tag: str) -> str:
    """Return the name of WordprocessingML's element, transitional or strict, else nothing."""
    space, _, name = tag.rpartition("}")
    return name if space.endswith(("wordprocessingml/2006/main", "wordprocessingml/main")) else ""
