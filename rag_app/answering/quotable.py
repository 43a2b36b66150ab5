"""A context's text → what can be quoted of it: sentences, list items, rows of tables, code blocks.

Prose is joined over its line breaks and split into sentences; lines that are no prose (those of an
invoice, a form) stand alone. What follows a colon belongs to it: a list, a code block. An item of a
list comes with what leads to it, a row of a table with the names of its columns. Markup of Markdown
and HTML is left out. What is cut off at an end of the context is not quoted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

from rag_app.answering.code_blocks import ITEM, Block, split_blocks

_HEADING = re.compile(r"#+\s+(.+?)[\s#]*")
_BULLET = re.compile(r"[-*+\u2022>]\s+")
_NUMBER = re.compile(r"\d+[.)]\s+")
_CELLS = re.compile(r"(?<!\\)\|")
_RULER = re.compile(r"[\s|:-]+")
_SHORTEST = 24
"""Characters: what is shorter ("Search parameters") is a label rather than a sentence."""
_ROWS = ("csv", "json")
"""Types of documents whose readers make a line of each row."""
_MARKUP = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),  # pictures
    (re.compile(r"\[([^\][]+)\]\([^()\s]+(?:\s+\"[^\"]*\")?\)"), r"\1"),  # links
    (re.compile(r"</?(?:br|p|div|li|td)\b[^<>]*>", re.IGNORECASE), " "),
    (re.compile(r"</?(?:b|i|u|a|em|strong|code|span|sub|sup|img)\b[^<>]*>", re.IGNORECASE), ""),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),  # what is bold
)
_ENDS = re.compile(r"[.!?:;\u2026\u3002\uff01\uff1f\uff1a][\"'\u201d\u2019)\]]*$")
_CJK_SENTENCE = re.compile(
    r"[^\u3002\uff01\uff1f]+[\u3002\uff01\uff1f]?[\u201d\u2019\u300d\uff09]*"
)
_COLONS = (":", "\uff1a")
_NO_PROSE_LINES = 3
"""Lines from which on it is told from how they begin whether a paragraph is prose."""
_LIST = 400
"""Characters of a list that are quoted behind what leads to it."""


@dataclass(frozen=True)
class Quotable:
    """Something that can be quoted, under the heading that it stands under.

    Attributes
    ----------
    text
        As it is quoted; empty of a block.
    heading
        The nearest one above it in its context, or the document's title.
    lead
        What it hangs on: the sentence that leads to it, the item that it is part of.
    block
        Code as it stands in the document, with its line breaks.
    """

    text: str
    heading: str
    lead: str = ""
    block: str = ""


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
    splitter = _Splitter(title)
    for part in split_blocks(lines):
        if isinstance(part, Block):
            splitter.add_block(part)
        else:
            splitter.add_paragraph(part)
    return splitter.finish()


class _Splitter:
    """Goes through a context from its beginning, and knows what the next part belongs to."""

    def __init__(self, title: str) -> None:
        self._heading = title
        self._found: list[Quotable] = []
        self._lead = ""  # a sentence that ends with a colon
        self._before = ""  # or the last one of any kind
        self._items: list[str] = []
        self._parents: list[tuple[int, str]] = []

    def finish(self) -> list[Quotable]:
        self._end_list()
        return self._found

    def add_block(self, block: Block) -> None:
        lead = self._parents[-1][1] if self._parents else self._lead or self._before
        self._end_list()
        if block.is_whole and _says_something("".join(block.lines)):
            self._found.append(Quotable("", self._heading, lead, "\n".join(block.lines)))

    def add_paragraph(self, lines: Sequence[str]) -> None:
        joined = list(_joined(lines))
        header: list[str] = []
        for at, (indent, line) in enumerate(joined):
            if above := _HEADING.fullmatch(line):
                self._end_list()
                self._heading = _plain(above[1])
            elif line.startswith("|"):
                if at + 1 < len(joined) and _is_ruler(joined[at + 1][1]):
                    # The names of the columns say nothing alone.
                    header = _cells(line)
                elif not _is_ruler(line) and line.endswith("|"):  # else it is cut off
                    self._add_row(_cells(line), header)
            elif ITEM.match(line):
                self._add_item(indent, _plain(_BULLET.sub("", line, count=1)))
            else:
                self._add_prose(_plain(line))

    def _add_row(self, cells: Sequence[str], header: Sequence[str]) -> None:
        if len(cells) == len(header):
            named = zip(header, cells, strict=True)
            text = "; ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)
        else:
            text = " | ".join(cell for cell in cells if cell)
        if _says_something(text):
            self._found.append(Quotable(text, self._heading))

    def _add_item(self, indent: int, item: str) -> None:
        while self._parents and self._parents[-1][0] >= indent:
            self._parents.pop()
        lead = self._parents[-1][1] if self._parents else self._lead
        self._parents.append((indent, item))
        self._items.append(item)
        number = _NUMBER.match(item)
        begin = number.end() if number else 0
        # Apart, or the number's full stop would end a sentence.
        sentences = list(_sentences(item[begin:]))
        if sentences:
            sentences[0] = item[:begin] + sentences[0]
        # An item's further sentences hang on its first one.
        for at, sentence in enumerate(sentences):
            if (_says_something(sentence) or lead) and not sentence.endswith(_COLONS):
                above = lead if at == 0 else sentences[0]
                self._found.append(Quotable(sentence, self._heading, above))

    def _add_prose(self, line: str) -> None:
        self._end_list()
        for sentence in _sentences(line):
            self._lead = sentence if sentence.endswith(_COLONS) else ""
            self._before = sentence
            if not self._lead and _says_something(sentence):
                self._found.append(Quotable(sentence, self._heading))

    def _end_list(self) -> None:
        """Add a list as a whole, behind what leads to it."""
        if self._lead and self._items:
            listed = _shortened(f"{self._lead} {'; '.join(self._items)}", _LIST)
            self._found.append(Quotable(listed, self._heading))
        self._lead, self._before, self._items, self._parents = "", "", [], []


def _joined(paragraph: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Join wrapped lines of prose and of list items; yield each with its indentation."""
    stands_alone = _is_no_prose(paragraph)
    open_, at = "", 0
    for raw in paragraph:
        line = raw.strip()
        is_row = line.startswith("|")
        is_heading = _HEADING.fullmatch(line) is not None
        if open_ and (is_row or is_heading or stands_alone or ITEM.match(line)):
            yield at, open_
            open_ = ""
        if is_row or is_heading:
            yield 0, line
        else:
            at = at if open_ else len(raw) - len(raw.lstrip())
            open_ = f"{open_} {line}".lstrip()
    if open_:
        yield at, open_


def _is_no_prose(paragraph: Sequence[str]) -> bool:
    """Tell lines that stand alone, as in a form, from wrapped ones, most of which begin small."""
    lines = [line.strip() for line in paragraph]
    if len(lines) < _NO_PROSE_LINES or any(ITEM.match(line) for line in lines):
        return False
    goes_on = sum(line[:1].islower() for line in lines[1:])
    ends = sum(_ENDS.search(line) is not None for line in lines)
    return goes_on <= 0.1 * len(lines) and ends < len(lines) / 2


def _plain(text: str) -> str:
    for markup, kept in _MARKUP:
        text = markup.sub(kept, text)
    return " ".join(text.split())


def _cells(row: str) -> list[str]:
    return [_plain(cell) for cell in _CELLS.split(row.strip("|"))]


def _is_ruler(line: str) -> bool:
    return _RULER.fullmatch(line) is not None


def _sentences(line: str) -> Iterator[str]:
    for piece in split_by_sentence_tokenizer()(line):
        # The tokenizer knows no full stop but the Latin one.
        for sentence in _CJK_SENTENCE.findall(piece):
            text = sentence.strip()
            if text and not _is_ruler(text):
                yield text


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[:most]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut else cut} \u2026"


def _says_something(text: str) -> bool:
    # A letter of Chinese, Japanese or Korean (above U+2E80) says about as much as three others.
    size = sum(3 if character > "\u2e80" else 1 for character in text)
    return size >= _SHORTEST or (size >= _SHORTEST // 3 and bool(re.search(r"[:=] *\S*\d", text)))
