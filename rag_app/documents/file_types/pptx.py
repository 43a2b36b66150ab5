"""Reader of PowerPoint presentations."""

from collections.abc import Mapping
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target, name_of
from rag_app.documents.file_types.pdf import PAGE_BREAK

_PRESENTATION = "ppt/presentation.xml"
_AROUND = {"sldNum", "dt", "ftr", "hdr"}
"""Placeholders that are no content: number, date, foot and head."""


class PptxReader(FileReader):
    """A presentation's slides in order: title, text, tables as Markdown, the speaker's notes.

    Between slides stands what stands between pages, so that nodes know their slide.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the slides, and the title of the file's properties or the first slide."""
        otherwise = "encrypted, or an old .ppt: save it as a plain .pptx"
        with Package(file, budget, "presentation", otherwise) as package:
            if _PRESENTATION not in package:
                raise UnreadableFileError(f"no presentation: there is no {_PRESENTATION} in it")
            order = _Order()
            package.parse(_PRESENTATION, order)
            places = package.relations(_PRESENTATION)
            first = ""
            for number, id_ in enumerate(order.slides, start=1):
                if number > 1:
                    budget.write(PAGE_BREAK)
                # Its break is written already, so that later slides keep their numbers.
                if (name := places.get(id_, "")) not in package:
                    continue
                slide = _SlideText(budget)
                package.parse(name, slide)
                first = first or slide.title
                budget.write(f"## {slide.title or f'Slide {number}'}\n\n{slide.text}")
                for notes in package.relations(name).values():
                    if "/notesSlide" in notes:
                        said = _SlideText(budget, "body")
                        package.parse(notes, said)
                        budget.write(f"Notes: {said.text}" if said.text.strip() else "")
            text = budget.text
            if not text.strip(f"{PAGE_BREAK} \n"):
                raise UnreadableFileError("no slides in it")
            return text, package.title() or first


class _Order(Target):
    """Keeps the ids of the slides in the order that they are shown in."""

    def __init__(self) -> None:
        super().__init__()
        self.slides: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a slide."""
        super().start(tag, attributes)
        if name_of(tag) == "sldId":
            # The relation's id has a namespace; the plain one is another number.
            ids = [value for name, value in attributes.items() if name.startswith("{")]
            self.slides += ids[:1]


class _SlideText(Target):
    """Keeps a slide's title, and its text: a line for each paragraph, a row for each row.

    Parameters
    ----------
    only
        The one kind of placeholder to take; empty: all that is content.
    """

    def __init__(self, budget: Budget, only: str = "") -> None:
        super().__init__()
        self.title = ""
        self._out: list[str] = []
        self._budget = budget
        self._only = only
        self._kind = ""
        self._lines: list[str] = []
        self._paragraph: list[str] = []
        self._cells: list[str] | None = None
        self._rows = 0
        self._in_text = False
        self._kept = 0

    @property
    def text(self) -> str:
        """What there is but the title."""
        return "".join(self._out)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a shape, a paragraph, a row or text."""
        super().start(tag, attributes)
        self._budget.tick()
        name = name_of(tag)
        if name in {"sp", "graphicFrame"}:
            self._kind = ""
        elif name == "ph":
            self._kind = attributes.get("type", "body")
        elif name == "tbl":
            self._rows = 0
        elif name == "tr":
            self._cells = []
        elif name == "t":
            self._in_text = True
        elif name in {"br", "tab"}:
            self._paragraph.append("\n" if name == "br" else "\t")

    def data(self, data: str) -> None:
        """Take text."""
        if self._in_text:
            self._kept += len(data)
            self._budget.check_text(self._kept)
            self._paragraph.append(data)

    def end(self, tag: str) -> None:
        """End a paragraph, a cell, a row or a shape."""
        super().end(tag)
        name = name_of(tag)
        if name == "t":
            self._in_text = False
        elif name == "p" and self._paragraph:
            self._lines.append("".join(self._paragraph).strip())
            self._paragraph.clear()
        elif name == "tc" and self._cells is not None:
            self._cells.append(" ".join(" ".join(self._lines).split()).replace("|", r"\|"))
            self._lines.clear()
        elif name == "tr" and self._cells is not None:
            self._end_row(self._cells)
            self._cells = None
        elif name in {"sp", "graphicFrame"}:
            self._end_shape()

    def _end_row(self, cells: list[str]) -> None:
        self._rows += 1
        self._out.append(f"| {' | '.join(cells)} |\n")
        if self._rows == 1:
            self._out.append("|" + " --- |" * len(cells) + "\n")

    def _end_shape(self) -> None:
        said = "\n".join(filter(None, self._lines))
        self._lines.clear()
        if self._kind in {"title", "ctrTitle"} and not self.title and not self._only:
            self.title = " ".join(said.split())
        elif self._kind == self._only if self._only else self._kind not in _AROUND:
            self._out.append(f"{said}\n\n" if said or self._rows else "")
        self._rows = 0
