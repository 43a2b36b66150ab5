"""The structure of a text: its blocks, where they stand, and the headings above them.

Line by line and in one pass, since every document goes through it: what a line begins with tells
its block, as in CommonMark. Nothing within a paragraph is parsed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from rag_app.schema import HEADING_SEPARATOR

MAX_HEADING = 120
"""Characters of a heading in a path: each node carries its path, twice."""

MAX_DEPTH = 6
"""Headings of a path, the innermost ones: Markdown knows no deeper ones."""

_LINE = re.compile(r"[^\n\f]+|\n|\f")
_FENCE = re.compile(r"[ \t]*(?:(`{3,})[^`]*$|(~{3,}))")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+\S")
_UNDERLINE = re.compile(r" {0,3}(=+|-{3,})[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]+\S")
_LINK = re.compile(r"!?\[([^\]\[]{0,300})\](?:\([^()\s]*\)|\[[^\]\[]*\])")
_MARKS = re.compile(r"\s+\{[#.:][^{}]*\}$|\s+#+$")
_RULE = frozenset("|:- \t")


class Kind(Enum):
    """What a block is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    TABLE = "table"
    CODE = "code"


@dataclass(slots=True)
class Block:
    """A block, white space around it left out.

    Attributes
    ----------
    start, end
        Where it stands in the text.
    level
        Of a heading, from 1; else 0.
    """

    kind: Kind
    start: int
    end: int
    level: int = 0


@dataclass(slots=True)
class Section:
    """A heading with what stands below it, up to the next one.

    Attributes
    ----------
    path
        The heading and those above it, outermost first.
    level
        Of the heading; 0 for what stands before the first one.
    """

    path: tuple[str, ...]
    level: int
    blocks: list[Block] = field(default_factory=list)

    @property
    def has_body(self) -> bool:
        """Whether there is more than a heading."""
        return len(self.blocks) > (self.level > 0)


class Outline:
    """The headings above a place in a text that is read in parts.

    Parameters
    ----------
    has_headings
        Whether "#" begins a heading; it begins a comment in source code.
    """

    def __init__(self, *, has_headings: bool = True) -> None:
        self._has_headings = has_headings
        self._above: list[tuple[int, str]] = []

    def sections(self, text: str) -> list[Section]:
        """Tell the sections of the next part of the text, in order; none is empty."""
        section = Section(self._path(), 0)
        found = [section]
        for block in _blocks(text, self._has_headings):
            if block.level:
                self._above = [each for each in self._above if each[0] < block.level]
                if title := _title(text[block.start : block.end]):
                    self._above.append((block.level, title))
                section = Section(self._path(), block.level)
                found.append(section)
            section.blocks.append(block)
        return [section for section in found if section.blocks]

    def _path(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._above[-MAX_DEPTH:])


def header_of(table: str) -> str:
    """Return a table's first row with the rule below it; nothing where there is none."""
    first = table.find("\n") + 1
    second = table.find("\n", first) + 1
    rule = table[first : second - 1]
    return table[:second] if first and second and "-" in rule and _RULE.issuperset(rule) else ""


def _blocks(text: str, has_headings: bool) -> Iterator[Block]:
    block: Block | None = None
    fence = ""  # what ends the code block that we are in
    after_blank = True
    for match in _LINE.finditer(text):
        line, start = match[0], match.start()
        bare = line.strip()
        if not bare:
            # A line break ends a line with something in it, or else is a line of its own.
            if line != "\n" or start == 0 or text[start - 1] in "\n\f":
                after_blank = True
            continue
        end = start + len(line.rstrip())
        if fence and block:
            block.end = end
            if bare.startswith(fence) and not bare.strip(fence[0]):
                yield block
                block, fence = None, ""
            continue
        new = _begun(line, bare[0], start, end)
        if new.level and not has_headings:
            new = Block(Kind.PARAGRAPH, start, end)
        if block and not after_blank and _is_underlined(text, block, line) and has_headings:
            block.kind, block.end, block.level = Kind.HEADING, end, 1 if bare[0] == "=" else 2
        elif block and _goes_on(block, new, line, after_blank):
            block.end = end
        else:
            if block:
                yield block
            block = new
            fence = _fence(line) if new.kind is Kind.CODE else ""
        if block.level:
            yield block
            block = None
        after_blank = False
    if block:
        yield block


def _begun(line: str, first: str, start: int, end: int) -> Block:
    """Return the block that a line begins, if it begins one."""
    if first == "#" and (heading := _HEADING.match(line)):
        return Block(Kind.HEADING, start, end, len(heading[1]))
    if first == "|":
        return Block(Kind.TABLE, start, end)
    if first in "`~" and _fence(line):
        return Block(Kind.CODE, start, end)
    if (first in "-*+•" or first.isdigit()) and _ITEM.match(line):
        return Block(Kind.ITEM, start, end)
    return Block(Kind.PARAGRAPH, start, end)


def _goes_on(block: Block, new: Block, line: str, after_blank: bool) -> bool:
    """Whether a line goes on with a block."""
    if new.kind is Kind.PARAGRAPH and block.kind is Kind.ITEM and line[0] in " \t":
        return True  # a further paragraph of the item
    if after_blank:
        return False
    if new.kind is Kind.PARAGRAPH:
        return block.kind in (Kind.PARAGRAPH, Kind.ITEM)
    return new.kind is block.kind is Kind.TABLE


def _is_underlined(text: str, block: Block, line: str) -> bool:
    """Whether a line under a paragraph of one line makes a heading of it."""
    return (
        block.kind is Kind.PARAGRAPH
        and _UNDERLINE.match(line) is not None
        and text.find("\n", block.start, block.end) < 0
    )


def _fence(line: str) -> str:
    """Return the marks with which a line opens a block of code, if it does."""
    found = _FENCE.match(line)
    return found[1] or found[2] if found else ""


def _title(heading: str) -> str:
    """Return a heading's words in one line, without its marks."""
    line = heading.split("\n", 1)[0][:1000].strip().lstrip("#")
    line = _LINK.sub(r"\1", _MARKS.sub("", line))
    for mark in ("`", "**", "__"):
        line = line.replace(mark, "")
    line = " ".join(line.replace(HEADING_SEPARATOR.strip(), ">").split())
    return line if len(line) <= MAX_HEADING else f"{line[: MAX_HEADING - 1]}…"
