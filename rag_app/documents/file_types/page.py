"""A page's tree, as large and as deep as can be rendered, and its Markdown."""

import re
import warnings
from itertools import takewhile
from typing import Any

from bs4 import BeautifulSoup, Tag, UnusualUsageWarning
from bs4.element import PreformattedString
from markdownify import MarkdownConverter

from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_MAX_DEPTH = 150
"""Of elements; markdownify takes three Python frames for each. Deeper ones are flattened, as
browsers do at 512."""

_MAX_ELEMENTS = 500_000
"""Of a page; BeautifulSoup takes about a kilobyte for each."""

_MAX_NAME = 40
"""Characters of an element's name; a longer one is no HTML."""

_MAX_COLSPAN = 1000
"""HTML, "Forming a table": more columns than that are cut."""

_NEVER_CONTENT = {
    *("script", "style", "svg", "button", "noscript", "template", "iframe", "object"),
    *("canvas", "input", "select", "ix:header", "ix:hidden"),  # inline XBRL: values not shown
}
_NOT_CONTENT = {"nav", "form", "dialog"}
_NOT_CONTENT_ROLES = {"navigation", "banner", "contentinfo", "search", "button", "menu", "dialog"}

# Python shows a warning once a process; each file's report (`library_warnings`) is to have its own.
warnings.filterwarnings("always", category=UnusualUsageWarning)

_NOT_SHOWN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_LONG_SPACE = re.compile(r"\s{50,}")


class Page(BeautifulSoup):
    """A parsed page without what is never content.

    Parameters
    ----------
    markup
        HTML.
    budget
        Of the file.

    Raises
    ------
    UnreadableFileError
        If there are more elements than can be kept.
    """

    def __init__(self, markup: str, budget: Budget) -> None:
        # First: BeautifulSoup parses in its constructor, and calls back from there.
        self._budget = budget
        super().__init__(markup, "lxml")

    def reset(self) -> None:
        """Start anew; BeautifulSoup does it before each parser that it tries."""
        super().reset()
        self._elements = 0
        self._inside_dropped = 0
        self._inside_flattened = 0

    def handle_starttag(self, name: str, *rest: Any, **more: Any) -> Tag | None:
        """Open an element, unless it is dropped or flattened."""
        self._budget.tick()
        if self._inside_dropped or name in _NEVER_CONTENT:
            self._inside_dropped += 1
            return None
        if self._inside_flattened or len(self.tagStack) > _MAX_DEPTH or len(name) > _MAX_NAME:
            self._inside_flattened += 1
            self.handle_data("\n")
            return None
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise UnreadableFileError(
                f"its page has more than {_MAX_ELEMENTS:,} elements; split it into several"
            )
        return super().handle_starttag(name, *rest, **more)

    def handle_endtag(self, name: str, nsprefix: str | None = None) -> None:
        """Close an element; the parser closes each that it opened."""
        if self._inside_dropped:
            self._inside_dropped -= 1
        elif self._inside_flattened:
            self._inside_flattened -= 1
        else:
            super().handle_endtag(name, nsprefix)

    def handle_data(self, data: str) -> None:
        """Take text."""
        if not self._inside_dropped:
            super().handle_data(data)

    def content(self) -> Tag:
        """Return the element that holds the content, rid of numbers that are none."""
        content = self.find("main") or self.find(role="main") or self.body or self
        for numbered in content.find_all("ol", start=True):
            if not re.fullmatch("[0-9]{1,9}", str(numbered["start"])):
                del numbered["start"]
        self._cap_colspans(content)
        return content

    def _cap_colspans(self, content: Tag) -> None:
        """Let no cell span more columns than its table has rows of cells for."""
        columns: dict[int, int] = {}
        # markdownify writes a mark for each column that a cell says it spans.
        for cell in content.find_all(["td", "th"], colspan=True):
            self._budget.tick()
            table = cell.find_parent("table")
            if table is not None and id(table) not in columns:
                rows = (row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr"))
                columns[id(table)] = min(max(map(len, rows), default=1), _MAX_COLSPAN)
            span = str(cell["colspan"]).strip()
            widest = columns[id(table)] if table is not None else 1
            capped = min(int(span[:9]), widest) if re.fullmatch("[0-9]+", span) else 1
            cell["colspan"] = str(max(capped, 1))


def markdown_of(content: Tag, budget: Budget) -> str:
    """Render an element as Markdown, in ATX style, without links and pictures."""
    text: str = _Converter(content, budget).convert_soup(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def title_of(page: Page, content: Tag) -> str | None:
    """Return the first "h1" of the content that is shown, or else the page's title."""
    for heading in content.find_all("h1"):
        above = takewhile(lambda tag: tag is not content, [heading, *heading.parents])
        if not any(map(is_around, above)):
            text = heading.get_text(" ", strip=True)
            return text or _title(page)
    return _title(page)


def _title(page: Page) -> str | None:
    return page.title.get_text(" ", strip=True) if page.title else None


class _Converter(MarkdownConverter):
    """Markdown without what is around the content, within a budget."""

    def __init__(self, content: Tag, budget: Budget) -> None:
        super().__init__(
            heading_style="ATX",
            strip=["a", "img"],
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
            code_language_callback=_code_language,
        )
        self._content = content
        self._budget = budget
        self._numbers: dict[int, int] = {}

    def process_tag(self, node: Tag, parent_tags: set[str] | None = None) -> str:
        self._budget.tick()
        if node is not self._content and is_around(node):
            return ""
        text: str = super().process_tag(node, parent_tags)  # type: ignore[misc]
        self._budget.check_text(len(text))
        return text

    def process_text(self, el: Any, parent_tags: set[str] | None = None) -> str:
        if isinstance(el, PreformattedString):
            return ""  # processing instructions and the like
        if _LONG_SPACE.search(el):
            # markdownify's expressions take the square of a run of white space.
            short = el.__class__(_LONG_SPACE.sub(_short_space, el))
            el.replace_with(short)
            el = short
        text: str = super().process_text(el, parent_tags)  # type: ignore[misc]
        return text

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if el.parent is None or el.parent.name != "ol" or not text.strip():
            bulleted: str = super().convert_li(el, text, parent_tags)  # type: ignore[misc]
            return bulleted
        # markdownify counts the items before each one, which takes the square of a list.
        number = self._numbers.get(id(el.parent), int(str(el.parent.get("start", "1"))))
        self._numbers[id(el.parent)] = number + 1
        bullet = f"{number}. "
        first, *others = text.strip().split("\n")
        indented = (" " * len(bullet) + line if line else "" for line in others)
        return "\n".join([bullet + first, *indented, ""])


def _short_space(run: re.Match[str]) -> str:
    return "\n\n" if "\n" in run[0] else " " * 4


def is_around(tag: Tag) -> bool:
    """Tell whether an element is around the content: navigation, controls, what is hidden."""
    if tag.name in _NOT_CONTENT or tag.get("role") in _NOT_CONTENT_ROLES:
        return True
    if tag.has_attr("hidden") or tag.get("aria-hidden") == "true":
        return True
    if _NOT_SHOWN.search(str(tag.get("style") or "")[:1000]):
        return True
    # A page's header and footer are navigation; an article's own header holds its title.
    return tag.name in {"header", "footer", "aside"} and tag.find_parent("article") is None


def _code_language(pre: Tag) -> str:
    code = pre.find("code")
    classes = [*(pre.get("class") or []), *((code.get("class") or []) if code else [])]
    return next((name.removeprefix("language-") for name in classes if "language-" in name), "")
