"""Reader of reStructuredText (docutils' specification), as Markdown."""

import re
from pathlib import Path

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget
from rag_app.documents.file_types.text import first_heading

_LINE = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"(\s*)\.\. (?:\|[^|]+\|\s*)?([\w:-]+)::\s*(.*)$")
_COMMENT = re.compile(r"(\s*)\.\.(?:\s|$)")
_OPTION = re.compile(r"\s*:[\w -]{1,60}:(?:\s|$)")
_ROLE = re.compile(r":[\w:.+-]{1,60}:`([^`]{1,1000})`")
_REFERENCE = re.compile(r"`([^`<]{1,500})(?:\s*<[^`>]{1,1000}>)`__?|(?<!`)`([^`]{1,500})`__?")
_TARGET = re.compile(r"\s*<[^<>]{1,1000}>$")
_LITERAL = re.compile(r"``([^`]{1,1000})``")
_CODE = {"code", "code-block", "sourcecode", "highlight", "literalinclude", "parsed-literal"}
_DROPPED = {
    *("image", "toctree", "include", "raw", "contents", "index", "meta", "highlight", "role"),
    *("currentmodule", "module", "autofunction", "autoclass", "automodule", "literalinclude"),
    *("default-role", "sectnum", "tabularcolumns", "only", "figure"),
}


class RstReader(FileReader):
    """Headings, code and text as Markdown; directives give their content, references their text."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the first heading."""
        _Rst(budget).write(text_of(file).expandtabs(4).split("\n"))
        text = budget.text.strip("\n")
        return text, first_heading(text)


class _Rst:
    """Goes through the lines once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._levels: list[str] = []

    def write(self, lines: list[str]) -> None:
        at = 0
        while at < len(lines):
            self._budget.tick()
            line = lines[at]
            if heading := self._heading(lines, at):
                title, level, used = heading
                self._budget.write(f"{'#' * min(level, 6)} {title}\n")
                at += used
            elif found := _DIRECTIVE.match(line):
                at = self._directive(lines, at, found)
            elif (found := _COMMENT.match(line)) and not line.lstrip().startswith((".. [", ".. _")):
                at = _block_end(lines, at + 1, len(found[1]))
            elif line.lstrip().startswith(".. _"):
                at += 1
            elif line.rstrip().endswith("::") and not line.lstrip().startswith(".."):
                self._budget.write(_plain(line.rstrip()[:-1].rstrip(":")) + ":\n\n")
                at = self._code(lines, at + 1, _indent(line), "")
            else:
                self._budget.write(f"{_plain(line)}\n")
                at += 1

    def _heading(self, lines: list[str], at: int) -> tuple[str, int, int] | None:
        """Return a heading's text, level and lines: levels come in the order they are met in."""
        line = lines[at].rstrip()
        below = lines[at + 1].rstrip() if at + 1 < len(lines) else ""
        if _LINE.match(line) and at + 2 < len(lines) and lines[at + 2].rstrip() == line:
            title, style, used = below.strip(), f"{line[0]}{line[0]}", 3
        elif line and line[0] != " " and _LINE.match(below) and len(below) >= min(len(line), 4):
            title, style, used = line, below[0], 2
        else:
            return None
        if not title or _LINE.match(title):
            return None
        if style not in self._levels:
            self._levels.append(style)
        return _plain(title), self._levels.index(style) + 1, used

    def _directive(self, lines: list[str], at: int, found: re.Match[str]) -> int:
        indent, name, argument = len(found[1]), found[2], found[3]
        if name in _CODE - _DROPPED:
            return self._code(lines, at + 1, indent, argument.strip())
        end = _block_end(lines, at + 1, indent)
        if name in _DROPPED:
            return end
        body = [line for line in lines[at + 1 : end] if not _OPTION.match(line)]
        name = name.replace("-", " ").capitalize()
        self._budget.write(f"{name}: {_plain(argument)}\n".replace(": \n", ":\n"))
        self.write([line[min(indent + 3, _indent(line)) :] for line in body])
        return end

    def _code(self, lines: list[str], at: int, indent: int, language: str) -> int:
        end = _block_end(lines, at, indent)
        body = lines[at:end]
        while body and (not body[0].strip() or _OPTION.match(body[0])):
            body.pop(0)
        least = min((_indent(line) for line in body if line.strip()), default=0)
        code = "\n".join(line[least:] for line in body).rstrip()
        if code:
            self._budget.write(f"```{language}\n{code}\n```\n\n")
        return end


def _block_end(lines: list[str], at: int, indent: int) -> int:
    """Return where an indented block ends."""
    while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > indent):
        at += 1
    return at


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _plain(text: str) -> str:
    text = _ROLE.sub(lambda role: f"`{_TARGET.sub('', role[1])}`", text)
    text = _REFERENCE.sub(lambda link: (link[1] or link[2]).strip(), text)
    return _LITERAL.sub(r"`\1`", text)
