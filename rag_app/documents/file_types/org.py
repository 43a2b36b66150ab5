"""Reader of Org files (Emacs' Org Mode), as Markdown."""

import re
from pathlib import Path

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget
from rag_app.documents.file_types.text import first_heading

_HEADING = re.compile(r"(\*{1,20})\s+(\S.*)$")
_KEYWORD = re.compile(r"\s*#\+([\w-]{1,60}):?\s*(.*)$")
_DRAWER = re.compile(r"\s*:(?:PROPERTIES|LOGBOOK):\s*$", re.IGNORECASE)
_LINK = re.compile(r"\[\[([^\[\]]{1,1000})\](?:\[([^\[\]]{1,1000})\])?\]")
_TAGS = re.compile(r"\s+:[\w@:]{1,200}:\s*$")
_CODE = {"src", "example"}


class OrgReader(FileReader):
    """Headings, code and tables as Markdown; drawers and comments go, links give their text."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the title or first heading."""
        title = ""
        in_code = in_drawer = False
        for line in text_of(file).split("\n"):
            budget.tick()
            if in_drawer:
                in_drawer = line.strip().lower() != ":end:"
                continue
            keyword = _KEYWORD.match(line)
            name = keyword[1].lower() if keyword else ""
            kind = name.partition("_")[2]
            if in_code and not (name.startswith("end_") and kind in _CODE):
                budget.write(f"{line}\n")
            elif keyword:
                if kind in _CODE:
                    in_code = name.startswith("begin_")
                    language = (keyword[2].split() or [""])[0] if in_code and kind == "src" else ""
                    budget.write(f"```{language}\n")
                elif name == "title":
                    title = title or keyword[2].strip()
                    budget.write(f"# {keyword[2].strip()}\n")
            elif _DRAWER.match(line):
                in_drawer = True
            elif not line.lstrip().startswith("# "):
                budget.write(f"{self._line(line, bool(title))}\n")
        text = budget.text.strip("\n")
        return text, title or first_heading(text)

    def _line(self, line: str, has_title: bool) -> str:
        line = _LINK.sub(lambda link: link[2] or link[1], line)
        if found := _HEADING.match(line):
            level = min(len(found[1]) + has_title, 6)
            return f"{'#' * level} {_TAGS.sub('', found[2])}"
        return line.replace("+", "|") if line.lstrip().startswith("|-") else line
