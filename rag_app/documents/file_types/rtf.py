"""Reader of RTF files (Rich Text Format 1.9.1)."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,9})?[ ]?|\\'([0-9A-Fa-f]{2})|\\(.)|([{}])|([^\\{}]+)",
    re.DOTALL,
)

_NOT_TEXT = {
    *("fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "filetbl", "listtable"),
    *("header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf"),
    *("themedata", "colorschememapping", "datastore", "latentstyles", "generator", "fldinst"),
}
"""Groups that are no part of the text; so are all that begin with "\\*"."""

_CHARACTERS = {
    **{"par": "\n\n", "sect": "\n\n", "page": "\n\n", "line": "\n", "tab": "\t", "row": "\n"},
    **{"cell": " | ", "nestcell": " | ", "nestrow": "\n", "bullet": "•", "emdash": "\u2014"},
    **{"endash": "\u2013", "lquote": "\u2018", "rquote": "\u2019", "ldblquote": "\u201c"},
    **{"rdblquote": "\u201d", "~": "\xa0", "_": "-", "\\": "\\", "{": "{", "}": "}"},
    **{"\n": "\n\n", "\r": "\n\n", "emspace": " ", "enspace": " "},
}
_CODEPAGES = {"ansi": "cp1252", "mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_CHARSETS = {
    **{0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5"},
    **{161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257"},
    **{204: "cp1251", 222: "cp874", 238: "cp1250"},
}
_MAX_DEPTH = 10_000
_BLANK_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")


class RtfReader(FileReader):
    """The text of an RTF file: paragraphs, cells between "|", notes; no pictures, heads and feet.

    (Tried: striprtf, whose expressions take the square of a line and know no limits.)
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text, and the title of the file's information."""
        data = file.read_bytes()
        if not data.lstrip().startswith(b"{\\rtf"):
            raise UnreadableFileError("truncated or damaged: it does not begin as RTF does")
        parser = _Parser(budget)
        parser.parse(data)
        return _BLANK_LINES.sub("\n\n", budget.text).strip(), parser.title.strip()


@dataclass(frozen=True)
class _Group:
    """What holds within braces: where text goes, its codepage, what stands in for Unicode."""

    goes: str = "text"
    codepage: str = ""
    fallback: int = 1


class _Parser:
    """Goes through the tokens with a stack of groups of its own."""

    def __init__(self, budget: Budget) -> None:
        self.title = ""
        self._budget = budget
        self._codepage = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._bytes = bytearray()
        self._skip = 0
        self._stack: list[_Group] = []
        self._group = _Group()

    def parse(self, data: bytes) -> None:
        at = 0
        while token := _TOKEN.match(data, at):
            at = token.end()
            self._budget.tick()
            word, number, code, symbol, brace, text = token.groups()
            if code is not None:
                self._take(bytes([int(code, 16)]))
            elif text is not None:
                self._take(text)
            else:
                self._flush()
                if brace is not None:
                    self._brace(brace)
                # What follows is bytes: braces and backslashes in it are none.
                elif word == b"bin":
                    at += max(0, int(number or 0))
                elif word is not None:
                    self._word(word.decode("ascii"), int(number) if number else None)
                elif symbol == b"*":
                    self._group = replace(self._group, goes="")
                elif symbol is not None:
                    self._write(_CHARACTERS.get(symbol.decode("latin-1"), ""))
        self._flush()

    def _brace(self, brace: bytes) -> None:
        self._skip = 0
        if brace == b"{":
            self._stack.append(self._group)
            if len(self._stack) > _MAX_DEPTH:
                raise UnreadableFileError(f"its groups are nested more than {_MAX_DEPTH} deep")
        elif self._stack:
            self._group = self._stack.pop()

    def _word(self, word: str, number: int | None) -> None:
        if word in _NOT_TEXT:
            self._group = replace(self._group, goes="fonts" if word == "fonttbl" else "")
        elif word == "title" and not self._group.goes:
            self._group = replace(self._group, goes="title")
        elif word == "u" and number is not None:
            self._skip = 0
            # Written with a sign. Halves of a surrogate pair come one by
            # one, and are joined in `read`.
            self._write(chr(number % 65_536))
            self._skip = self._group.fallback
        elif word == "uc":
            self._group = replace(self._group, fallback=max(0, number or 0))
        elif word == "ansicpg" or word in _CODEPAGES:
            name = _CODEPAGES.get(word) or f"cp{number}"
            self._codepage = _known(name) or self._codepage
        elif word == "f" and number is not None:
            self._font = number
            if self._group.goes != "fonts":
                self._group = replace(self._group, codepage=self._fonts.get(number, ""))
        elif word == "fcharset" and self._group.goes == "fonts":
            if number:  # 0 is whatever the file's own codepage is
                self._fonts[self._font] = _CHARSETS.get(number, "")
        elif word == "plain":
            self._group = replace(self._group, codepage="")
        elif word in _CHARACTERS:
            self._write(_CHARACTERS[word])

    def _take(self, data: bytes) -> None:
        """Keep bytes of text until all of a character is there."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        if self._group.goes in {"text", "title"}:
            self._bytes += data[skipped:].translate(None, b"\r\n")

    def _flush(self) -> None:
        if self._bytes:
            text = self._bytes.decode(self._group.codepage or self._codepage, "replace")
            self._bytes.clear()
            self._put(text)

    def _write(self, text: str) -> None:
        if self._skip and text:
            self._skip -= 1
        else:
            self._put(text)

    def _put(self, text: str) -> None:
        if self._group.goes == "text":
            self._budget.write(text)
        elif self._group.goes == "title":
            self.title += text
            self._budget.check_text(len(self.title))


def _known(name: str) -> str:
    """Return Python's name of a codepage, if it has it."""
    name = {"cp65001": "utf-8", "cp10000": "mac_roman", "cp936": "gbk"}.get(name, name)
    try:
        "".encode(name)
    except LookupError:
        return ""
    return name
