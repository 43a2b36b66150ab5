"""A context's text → what can be quoted of it: sentences, list items, rows of tables, code blocks.

Prose is joined over its line breaks and split into sentences. Code and tables are no sentences: a
block is quoted as a whole, a row as a row. A context is a piece of its document, so a block can be
cut off at its beginning or its end; such a one is not quoted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*(.*?)\s*")
_HEADING = re.compile(r"#+\s+(.+?)[\s#]*")
_ALONE = re.compile(r"[-*+] |\d+[.)] |>")
"""List items and quotations, which may go on over several lines."""
_BULLET = re.compile(r"[-*+]\s+")
_RULER = re.compile(r"[\s|:-]+")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
"""A line of nothing but a tag, as Markdown may have them."""
_SHORTEST = 24
"""Characters: what is shorter ("Search parameters") is a label rather than a sentence."""
_ROWS = ("csv", "json")
"""Types of documents whose readers make a line of each row."""
_CODE = re.compile(
    r"[$>%]\s|//|/\*|\*/|(import|from|def|class|return|const|let|var|func|public|export)\s"
    r"|[\])}]|[\"']?[\w.-]+[\"']?\s*[:=](\s*\S{1,40})?$|.*[\[({;\\=]$|.*[\])}][;,]?$|\w+\.\w+\("
)
_PROSE = re.compile(r"##.*|.{24,}[.!?:\u3002\uff01\uff1f\uff1a]")
_MOSTLY = 0.7
"""Share of a paragraph's lines that look like code in what is a block of it."""


@dataclass(frozen=True)
class Quotable:
    """Something that can be quoted, under the heading that it stands under.

    Attributes
    ----------
    text
        As it is quoted.
    heading
        The nearest one above it in its context, or the document's title.
    is_fenced
        Whether it is a code block between fences, which are part of the text.
    """

    text: str
    heading: str
    is_fenced: bool = False


def split_quotable(text: str, title: str, kind: str = "") -> list[Quotable]:
    """Split a context.

    Parameters
    ----------
    title
        Of its document.
    kind
        The document's type: of CSV and JSON each line is a row.
    """
    lines = text.splitlines()
    if kind in _ROWS:
        rows = (" ".join(line.split()) for line in lines)
        return [Quotable(row, title) for row in rows if _says_something(row)]
    found: list[Quotable] = []
    heading = title
    for part in _parts(lines):
        if isinstance(part, _Block):
            if part.is_whole and _says_something("".join(part.lines)):
                is_fenced = _FENCE.fullmatch(part.lines[0]) is not None
                found.append(Quotable("\n".join(part.lines), heading, is_fenced))
        elif above := _HEADING.fullmatch(part):
            heading = above[1]
        else:
            found += [Quotable(each, heading) for each in _sentences(part)]
    return found


@dataclass(frozen=True)
class _Block:
    """Lines of code as they stand there, their fences included."""

    lines: list[str]
    is_whole: bool


def _parts(lines: Sequence[str]) -> Iterator[str | _Block]:
    """Yield code blocks, and what stands between them as one line each: a heading, row or text."""
    start = 0
    for first, last, is_whole in _fenced(lines):
        yield from _unfenced(lines[start:first], at_start=start == 0, at_end=False)
        yield _Block(list(lines[first:last]), is_whole)
        start = last
    yield from _unfenced(lines[start:], at_start=start == 0, at_end=True)


def _fenced(lines: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield fenced blocks: first line, line behind the last one, and whether both fences are there.

    A context that begins inside a block has the closing fence first: it has no language, and the
    next fence opens a block, or what stands before it looks more like code than what follows.
    """
    fences = [(at, found[2]) for at, line in enumerate(lines) if (found := _FENCE.fullmatch(line))]
    if not fences:
        return
    places = [at for at, _ in fences]
    if _begins_inside(lines, fences):
        yield 0, places.pop(0) + 1, False
    while places:
        first = places.pop(0)
        last = places.pop(0) + 1 if places else len(lines)
        yield first, last, _FENCE.fullmatch(lines[last - 1]) is not None and last - 1 > first


def _begins_inside(lines: Sequence[str], fences: Sequence[tuple[int, str]]) -> bool:
    opens = [bool(language) for _, language in fences]
    if any(opens):
        # A fence with a language opens: the number of fences before it tells about the first.
        return opens.index(True) % 2 == 1
    before = lines[: fences[0][0]]
    after = lines[fences[0][0] + 1 : fences[1][0] if len(fences) > 1 else len(lines)]
    return _code_share(before) - _prose_share(before) > _code_share(after) - _prose_share(after)


def _unfenced(lines: Sequence[str], *, at_start: bool, at_end: bool) -> Iterator[str | _Block]:
    """Yield what stands outside of fences; code may be there, too, in configuration and scripts."""
    paragraphs = list(_paragraphs(lines))
    for number, paragraph in enumerate(paragraphs):
        if len(paragraph) > 1 and _code_share(paragraph) >= _MOSTLY:
            is_first = at_start and number == 0
            is_last = at_end and number == len(paragraphs) - 1
            yield _Block(paragraph, is_whole=not is_first and not is_last)
        else:
            yield from _joined(paragraph)


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
        if _CODE.match(line) and not _ALONE.match(line) and not line.startswith("|")
    ]
    return len(code) / len(stripped)


def _prose_share(lines: Sequence[str]) -> float:
    """Return how many of the lines are headings or end as sentences do."""
    stripped = [line.strip() for line in lines if line.strip()]
    prose = [line for line in stripped if _PROSE.fullmatch(line)]
    return len(prose) / len(stripped) if stripped else 0.0


def _joined(paragraph: Sequence[str]) -> Iterator[str]:
    """Join the wrapped lines of prose and of list items; headings and rows stand alone."""
    lines = [_PICTURE.sub("", line).strip() for line in paragraph]
    header = next((at for at, line in enumerate(lines) if "|" in line and _is_ruler(line)), None)
    open_ = ""
    for at, line in enumerate(lines):
        is_row = line.startswith("|")
        stands_alone = is_row or _HEADING.fullmatch(line)
        if open_ and (stands_alone or _ALONE.match(line)):
            yield open_
            open_ = ""
        if not stands_alone:
            open_ = f"{open_} {line}".lstrip()
        # A row without its end is cut off; the names of the columns say nothing alone.
        elif not is_row or (line.endswith("|") and header not in (at, at + 1)):
            yield line
    if open_:
        yield open_


def _is_ruler(line: str) -> bool:
    return _RULER.fullmatch(line) is not None


def _sentences(line: str) -> Iterator[str]:
    if line.startswith("|") or _ALONE.match(line):
        pieces = [_BULLET.sub("", line, count=1)]
    else:
        pieces = split_by_sentence_tokenizer()(line)
    for piece in pieces:
        text = " ".join(piece.split())
        if _says_something(text) and not _is_ruler(text):
            yield text


def _says_something(text: str) -> bool:
    # A letter of Chinese, Japanese or Korean (above U+2E80) says about as much as three others.
    return sum(3 if character > "\u2e80" else 1 for character in text) >= _SHORTEST
