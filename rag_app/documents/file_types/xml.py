"""Reader of XML: documents and data of any vocabulary, drawings (SVG), books (FictionBook 2)."""

import re
from collections.abc import Mapping
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Target, name_of

_HEADINGS = {"title", "head", "heading", "book-title"}
_PROSE = {
    *("p", "para", "simpara", "v", "l", "li", "listitem", "programlisting", "screen", "code"),
    *("abstract", "description", "summary", "content", "text", "desc", "note", "term", "subtitle"),
}
"""Elements of DocBook, JATS, TEI, DITA, FictionBook, RSS and Atom whose text speaks for itself."""

_SECTIONS = {"section", "sect1", "sect2", "sect3", "sect4", "chapter", "part", "sec", "topic"}
_INLINE = {
    *("emphasis", "em", "strong", "b", "i", "bold", "italic", "sub", "sup", "a", "xref", "link"),
    *("literal", "quote", "hi", "ref", "tspan", "span", "strikethrough", "style", "ulink"),
}
_NO_TEXT = {"binary", "script", "metadata", "defs"}
_NO_VALUE = {"id", "class", "style", "lang", "space", "schemaLocation", "version", "base"}
"""Attributes that say nothing of their own."""

_DECLARED = re.compile(r"\A\ufeff?\s*<\?xml[^>]{0,300}\?>")
_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE)
_MAX_VALUE = 10_000
"""Characters of an attribute; longer ones are no text."""


class XmlReader(FileReader):
    """The text of XML: titles as headings, paragraphs, and other values behind their names.

    Of a drawing what is written in it; a page is read as HTML is.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the first title."""
        data = file.read_bytes()
        text = _DECLARED.sub("", encoding_of(data).decode(data), count=1)
        if _ENTITY.search(text[:100_000]):
            raise UnreadableFileError("its XML declares entities, which may stand for anything")
        written = _Xml(budget)
        _feed(text, written)
        if written.root == "html":
            from rag_app.documents.file_types.page import Page, markdown_of, title_of

            page = Page(text, budget)
            content = page.content()
            return markdown_of(content, budget), title_of(page, content)
        if not budget.text.strip():
            what = "a drawing without words" if written.root == "svg" else "no text in it"
            raise UnreadableFileError(what)
        return budget.text.strip(), written.title


def _feed(text: str, target: Target) -> None:
    from lxml import etree  # 0.02 s

    # A document type is taken note of and nothing of it fetched; entities are refused above.
    parser = etree.XMLParser(
        target=target, resolve_entities=False, no_network=True, load_dtd=False, recover=False
    )
    data = text.encode("utf-8", "replace")
    try:
        for start in range(0, len(data), 65_536):
            if target.done:
                return
            parser.feed(data[start : start + 65_536])
        parser.close()
    except etree.XMLSyntaxError as error:
        why = str(error.msg).replace(", try XML_PARSE_HUGE", "").strip(" ,")
        raise UnreadableFileError(f"truncated or damaged: no well-formed XML: {why}") from None


class _Xml(Target):
    """Writes elements as they end."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.root = ""
        self.title: str | None = None
        self._budget = budget
        self._names: list[str] = []
        self._text: list[str] = []
        self._dropped = 0
        self._sections = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin an element; what its attributes say goes before its text."""
        super().start(tag, attributes)
        self._budget.tick()
        name = name_of(tag)
        if not self.root:
            self.root = name
            self.done = name == "html"
        if self._dropped or name in _NO_TEXT:
            self._dropped += 1
            return
        if name not in _INLINE:
            self._end_text(self._names[-1] if self._names else "", mixed=True)
            self._names.append(name)
            self._sections += name in _SECTIONS
            if self.root != "svg" and name not in _PROSE | _HEADINGS | _SECTIONS:
                self._write_attributes(name, attributes)

    def end(self, tag: str) -> None:
        """End an element."""
        super().end(tag)
        name = name_of(tag)
        if self._dropped:
            self._dropped -= 1
        elif name not in _INLINE:
            # A title of paragraphs, as FictionBook's are.
            in_title = name == "p" and "title" in self._names[-2:-1]
            self._end_text("title" if in_title else name)
            self._names.pop()
            self._sections -= name in _SECTIONS

    def data(self, data: str) -> None:
        """Take text."""
        if not self._dropped:
            self._budget.check_text(len(data))
            self._text.append(data)

    def doctype(self, *_: object) -> None:
        """Let a document have a type; nothing is read from it."""

    def _end_text(self, name: str, *, mixed: bool = False) -> None:
        """Write what stands in an element, or in it before another one."""
        text = " ".join("".join(self._text).split())
        self._text.clear()
        if not text:
            return
        if name in _HEADINGS and self.root != "svg":
            self.title = self.title or text
            self._budget.write(f"{'#' * min(self._sections + 1, 6)} {text}\n\n")
        elif mixed or name in _PROSE or self.root == "svg":
            self._budget.write(f"{text}\n\n")
        else:
            self._budget.write(f"{name}: {text}\n")

    def _write_attributes(self, name: str, attributes: Mapping[str, str]) -> None:
        said = [
            f"{name_of(key)}: {' '.join(value.split())}"
            for key, value in attributes.items()
            if name_of(key) not in _NO_VALUE and value.strip() and len(value) < _MAX_VALUE
        ]
        if said:
            self._budget.write(f"{name} {', '.join(said)}\n")
