"""Lines of a context → blocks of code, and the lines between them.

A context is a piece of its document, so a block can be cut off at its beginning or its end.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*(.*?)\s*")
ITEM = re.compile(r"(?:[-*+\u2022]|\d+[.)]|>)\s+")
"""Begins list items and quotations, which may go on over several lines."""
_CODE = re.compile(
    r"[$>%]\s|//|/\*|\*/|(import|from|def|class|return|const|let|var|func|public|export)\s"
    r"|[\])}]|[\"']?[\w.-]+[\"']?\s*[:=](\s*\S{1,40})?$|.*[\[({;\\=]$|.*[\])}][;,]?$|\w+\.\w+\("
)
_PROSE = re.compile(r"##.*|.{24,}[.!?:\u3002\uff01\uff1f\uff1a]")
_MOSTLY = 0.7
"""Share of a paragraph's lines that look like code in what is a block of it."""
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
"""A line of nothing but a tag, as Markdown may have them."""


@dataclass(frozen=True)
class Block:
    """Lines of code as they stand there, their fences included."""

    lines: list[str]
    is_whole: bool

    @property
    def is_fenced(self) -> bool:
        """Whether it stands between fences."""
        return FENCE.fullmatch(self.lines[0]) is not None


def split_blocks(lines: Sequence[str]) -> Iterator[list[str] | Block]:
    """Yield code blocks, and what stands between them as paragraphs of lines."""
    start = 0
    for first, last, is_whole in _fenced(lines):
        yield from _unfenced(lines[start:first], at_start=start == 0, at_end=False)
        yield Block(list(lines[first:last]), is_whole)
        start = last
    yield from _unfenced(lines[start:], at_start=start == 0, at_end=True)


def _fenced(lines: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield fenced blocks: first line, line behind the last one, and whether both fences are there.

    A context that begins inside a block has the closing fence first: it has no language, and the
    next fence opens a block, or what stands before it looks more like code than what follows.
    """
    fences = [(at, found[2]) for at, line in enumerate(lines) if (found := FENCE.fullmatch(line))]
    if not fences:
        return
    places = [at for at, _ in fences]
    if _begins_inside(lines, fences):
        yield 0, places.pop(0) + 1, False
    while places:
        first = places.pop(0)
        last = places.pop(0) + 1 if places else len(lines)
        yield first, last, FENCE.fullmatch(lines[last - 1]) is not None and last - 1 > first


def _begins_inside(lines: Sequence[str], fences: Sequence[tuple[int, str]]) -> bool:
    opens = [bool(language) for _, language in fences]
    if any(opens):
        # A fence with a language opens: the number of fences before it tells about the first.
        return opens.index(True) % 2 == 1
    before = lines[: fences[0][0]]
    after = lines[fences[0][0] + 1 : fences[1][0] if len(fences) > 1 else len(lines)]
    return _code_share(before) - _prose_share(before) > _code_share(after) - _prose_share(after)


def _unfenced(lines: Sequence[str], *, at_start: bool, at_end: bool) -> Iterator[list[str] | Block]:
    """Yield what stands outside of fences; code may be there, too, in configuration and scripts."""
    paragraphs = list(_paragraphs(lines))
    for number, paragraph in enumerate(paragraphs):
        if len(paragraph) > 1 and _code_share(paragraph) >= _MOSTLY:
            is_first = at_start and number == 0
            is_last = at_end and number == len(paragraphs) - 1
            yield Block(paragraph, is_whole=not is_first and not is_last)
        else:
            yield paragraph


def _paragraphs(lines: Sequence[str]) -> Iterator[list[str]]:
    paragraph: list[str] = []
    for line in [*lines, ""]:  # the empty one ends the last paragraph
        if line.strip() and not _TAG.fullmatch(line.strip()):
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _code_share(lines: Sequence[str]) -> float:
    """Return how many of the lines look like code, of those that are no list, table or heading."""
    stripped = [line.strip() for line in lines if line.strip()]
    if not stripped:
        return 0.0
    code = [
        line
        for line in stripped
        if _CODE.match(line) and not ITEM.match(line) and not line.startswith("|")
    ]
    return len(code) / len(stripped)


def _prose_share(lines: Sequence[str]) -> float:
    """Return how many of the lines are headings or end as sentences do."""
    stripped = [line.strip() for line in lines if line.strip()]
    prose = [line for line in stripped if _PROSE.fullmatch(line)]
    return len(prose) / len(stripped) if stripped else 0.0
