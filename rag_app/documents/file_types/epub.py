"""Reader of e-books (EPUB 2 and 3)."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target, name_of

_CONTAINER = "META-INF/container.xml"
_DECLARATION = re.compile(r"\A\ufeff?\s*<\?xml[^>]{0,200}>")
_PAGES = {"application/xhtml+xml", "text/html", "application/x-dtbook+xml"}


class EpubReader(FileReader):
    """A book's chapters in reading order, as Markdown."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the chapters, and the book's title."""
        from rag_app.documents.file_types.page import Page, markdown_of  # 0.2 s with lxml

        with Package(file, budget, "e-book", "no e-book: it is an Office file") as package:
            if "META-INF/rights.xml" in package or "META-INF/sinf.xml" in package:
                raise UnreadableFileError("encrypted: the book is protected against copying")
            container = _Container()
            package.parse(_CONTAINER, container)
            if container.book not in package:
                raise UnreadableFileError(f"no e-book: {_CONTAINER} names none that is in it")
            book = _Book()
            package.parse(container.book, book)
            folder = posixpath.dirname(container.book)
            for id_ in book.order:
                # Places are URLs: escaped, and with the fragment that they begin at.
                href = unquote(book.pages.get(id_, "").partition("#")[0])
                name = posixpath.normpath(posixpath.join(folder, href))
                if href and name in package:
                    data = package.read(name)
                    # What is XML is said once, in the package; the page is read as HTML.
                    markup = _DECLARATION.sub("", encoding_of(data).decode(data), count=1)
                    page = Page(markup, budget)
                    budget.write(f"{markdown_of(page.content(), budget)}\n\n")
        return budget.text.strip(), " ".join(book.title.split())


class _Container(Target):
    """Keeps where the first book in the archive is described."""

    book = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a book."""
        super().start(tag, attributes)
        if name_of(tag) == "rootfile" and not self.book:
            self.book = attributes.get("full-path", "")


class _Book(Target):
    """Keeps a book's title, its pages by id, and the ids in reading order."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.pages: dict[str, str] = {}
        # A dictionary: a page that is named twice is read once, where it is named first.
        self.order: dict[str, None] = {}
        self._in_title = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take a page, or its place."""
        super().start(tag, attributes)
        name = name_of(tag)
        if name == "item" and attributes.get("media-type") in _PAGES:
            self.pages[attributes.get("id", "")] = attributes.get("href", "")
        elif name == "itemref":
            self.order[attributes.get("idref", "")] = None
        self._in_title = name == "title" and not self.title

    def end(self, tag: str) -> None:
        """End the title."""
        super().end(tag)
        self._in_title = False

    def data(self, data: str) -> None:
        """Take its text."""
        if self._in_title:
            self.title += data[:1000]
