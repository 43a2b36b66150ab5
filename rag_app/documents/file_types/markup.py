"""HTML and drawings in Markdown: what a page would show of them, as Markdown."""

import html
import re
from collections.abc import Iterator

_NAMES = (
    "a abbr article aside audio b blockquote body br button caption center cite code col colgroup "
    "dd del details dfn div dl dt em embed figcaption figure font footer form h1 h2 h3 h4 h5 h6 "
    "head header hr html i iframe img input ins kbd label li link main mark meta nav object ol p "
    "picture pre q s samp section small source span strike strong sub summary sup table tbody td "
    "tfoot th thead time tr tt u ul var video wbr"
)
_TAG = re.compile(rf"<(/?)({_NAMES.replace(' ', '|')})(?:\s[^<>]{{0,5000}})?/?>", re.IGNORECASE)
_DROPPED = re.compile(r"<(!--|(?:svg|script|style|template|noscript)(?=[\s>]))", re.IGNORECASE)
_CLOSES = {
    "!--": re.compile("-->"),
    **{
        name: re.compile(f"</{name}\\s*>", re.IGNORECASE)
        for name in ("svg", "script", "style", "template", "noscript")
    },
}
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_CODE = re.compile(r"(`{1,8})(?!`).{1,2000}?(?<!`)\1(?!`)", re.DOTALL)
_LINES = {"br", "p", "div", "li", "summary", "details", "blockquote", "dt", "dd", "figure", "hr"}
_MANY_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def without_markup(text: str) -> str:
    """Return Markdown without HTML: its text stays, drawings, scripts and comments go.

    Code is left alone, and so is what looks like a tag and is no element of HTML: ``<name>``.
    """
    if "<" not in text and "&" not in text:
        return text
    return "".join(piece if is_code else _plain(piece) for is_code, piece in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield fenced code, and what is between."""
    fence = ""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            lines.append(line)
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip(" \t`~\r\n"):
                yield True, "".join(lines)
                fence, lines = "", []
        elif mark:
            yield False, "".join(lines)
            fence, lines = mark[1], [line]
        else:
            lines.append(line)
    yield bool(fence), "".join(lines)


def _plain(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    out: list[str] = []
    start = 0
    # Code within a line is kept; a drawing may hold backquotes, and goes first.
    for code in _CODE.finditer(text := _dropped(text)):
        out += [_untagged(text[start : code.start()]), code[0]]
        start = code.end()
    out.append(_untagged(text[start:]))
    return _MANY_LINES.sub("\n\n", "".join(out))


def _dropped(text: str) -> str:
    """Drop comments and elements whose text is none."""
    out: list[str] = []
    start = 0
    never_closed: set[str] = set()
    for opens in _DROPPED.finditer(text):
        name = opens[1].lower()
        if opens.start() < start or name in never_closed:
            continue
        closes = _CLOSES[name].search(text, opens.end())
        if closes is None:
            never_closed.add(name)  # nor will any after it be
            continue
        out.append(text[start : opens.start()])
        start = closes.end()
    out.append(text[start:])
    return "".join(out)


def _untagged(text: str) -> str:
    """Unwrap elements; rows of tables become rows of Markdown."""
    out: list[str] = []
    start = 0
    cells = rows = 0
    for tag in _TAG.finditer(text):
        out.append(text[start : tag.start()])
        start = tag.end()
        closes, name = bool(tag[1]), tag[2].lower()
        if name == "table":
            rows = 0
            out.append("\n\n")
        elif name == "tr":
            if closes:
                rows += 1
                out.append(" |\n" + ("|" + " --- |" * cells + "\n" if rows == 1 and cells else ""))
            cells = 0
        elif name in {"td", "th"} and not closes:
            cells += 1
            out.append("| " if cells == 1 else " | ")
        elif name[0] == "h" and name[1:].isdigit():
            out.append("\n\n" if closes else f"\n\n{'#' * int(name[1:])} ")
        elif name in _LINES and not cells:
            out.append("\n" if not closes or name != "br" else "")
    out.append(text[start:])
    joined = "".join(out)
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), joined).replace("\xa0", " ")
