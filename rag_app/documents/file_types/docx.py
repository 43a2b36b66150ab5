"""Reader of Word documents."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.ooxml import Package, Target

_BODY = "word/document.xml"


class DocxReader(FileReader):
    """The text of a Word document: headers, body and footers, a blank line between paragraphs."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the paragraphs, and the title of the file's properties."""
        otherwise = "encrypted, or an old .doc: save it as a plain .docx"
        with Package(file, budget, "Word document", otherwise) as package:
            if _BODY not in package:
                raise UnreadableFileError(f"no Word document: there is no {_BODY} in it")
            for name in [*package.names("word/header"), _BODY, *package.names("word/footer")]:
                package.parse(name, _WordText(budget))
            return budget.text.strip(), package.title()


class _WordText(Target):
    """Writes the text of WordprocessingML's runs; empty paragraphs leave no trace."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget
        self._runs = 0
        self._in_text = False
        self._ended = True

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Begin a paragraph, a run or what stands in it."""
        super().start(tag, attributes)
        name = _word_name(tag)
        if name == "p":
            self._end_paragraph()
        elif name == "r":
            self._runs += 1
        elif name == "t":
            self._in_text = True
        elif self._runs and name == "tab":
            self._write("\t")
        elif self._runs and name in {"br", "cr"}:
            self._write("\n")

    def end(self, tag: str) -> None:
        """End a run or its text."""
        super().end(tag)
        name = _word_name(tag)
        if name == "r":
            self._runs -= 1
        elif name == "t":
            self._in_text = False

    def data(self, data: str) -> None:
        """Take a run's text."""
        if self._in_text:
            self._write(data)

    def close(self) -> None:
        """End the last paragraph."""
        self._end_paragraph()

    def _write(self, text: str) -> None:
        self._budget.write(text)
        self._ended = False

    def _end_paragraph(self) -> None:
        if not self._ended:
            self._budget.write("\n\n")
            self._ended = True


@lru_cache(maxsize=1000)
def _word_name(tag: str) -> str:
    """Return the name of WordprocessingML's element, transitional or strict, else nothing."""
    space, _, name = tag.rpartition("}")
    return name if space.endswith(("wordprocessingml/2006/main", "wordprocessingml/main")) else ""
