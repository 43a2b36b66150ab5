"""Which encoding a text is in: told by its marks, its declaration or its bytes, else guessed."""

import codecs
import logging
import re
from dataclasses import dataclass

from rag_app.documents.file_types.limits import UnreadableFileError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_LIKELY = (
    *("cp1252", "cp932", "gb18030", "cp1251", "cp1250", "big5", "cp949", "euc_jp", "koi8_r"),
    *("cp1253", "cp1254", "cp1256", "cp1255", "cp1257", "cp874", "utf_16_le", "utf_16_be"),
)
"""What texts are in that are not UTF-8; of two that fit as well, the one that is met more often."""

_SAMPLE = 32_768
"""Bytes that a guess is made from: lines that are not ASCII."""

_HEAD = 8192
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_DECLARED = re.compile(rb"(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9._:-]{2,40})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoding:
    """How to decode a text.

    Attributes
    ----------
    name
        Python's.
    doubt
        What the report has to say of it; empty where the text itself tells.
    """

    name: str
    doubt: str = ""
    errors: str = "strict"

    def decode(self, data: bytes) -> str:
        """Decode the text, and say in the file's report what is in doubt."""
        if self.doubt:
            _log.warning("%s", self.doubt)
        return data.decode(self.name, self.errors)


def encoding_of(data: bytes) -> Encoding:
    """Tell the encoding of a file's text.

    Raises
    ------
    UnreadableFileError
        If it is no text in any encoding that is met.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _marked(data, name)
    if b"\0" in data[:_HEAD]:
        return _wide(data)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # What a page says of itself before what its bytes look like, and a guess last.
        return _declared(data) or _damaged(data) or _guessed(data, error)
    return Encoding("utf-8")


def _marked(data: bytes, name: str) -> Encoding:
    try:
        data.decode(name)
    except UnicodeDecodeError as error:
        said = f"it is marked as {name.removesuffix('-sig').upper()}"
        text = data.decode(name, "replace")
        if 10 * text.count("\ufffd") > len(text):
            raise UnreadableFileError(f"truncated or damaged: {said}, and is not") from error
        return Encoding(name, f"{said}, and what of it is not is replaced", "replace")
    return Encoding(name)


def _wide(data: bytes) -> Encoding:
    """Tell UTF-16 without its mark by where the zero bytes are that Latin letters have in it."""
    # An even number of bytes: a unit of UTF-16 has two.
    head = data[: _HEAD & ~1]
    zeros = head[::2].count(0), head[1::2].count(0)
    name = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        if max(zeros) > len(head) / 8 and min(zeros) < len(head) / 100:
            text = data.decode(name)
            if not any(character in text for character in map(chr, _CONTROLS)):
                return Encoding(name, f"read as {name.upper()}, which is a guess: it has no mark")
    except UnicodeDecodeError:
        pass
    raise UnreadableFileError("binary: it has zero bytes, and is no UTF-16")


def _declared(data: bytes) -> Encoding | None:
    """Take a page or an XML file at its word, if it can be read so."""
    if not data.lstrip().startswith(b"<") or not (said := _DECLARED.search(data[:2048])):
        return None
    try:
        name = codecs.lookup(said[1].decode("ascii")).name
        data.decode(name)
    except (LookupError, UnicodeError, ValueError):
        return None
    # WHATWG, "Encoding": browsers take the subset's name for the larger set.
    return Encoding("cp1252" if name in {"iso8859-1", "ascii"} and _fits(data, "cp1252") else name)


def _fits(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _damaged(data: bytes) -> Encoding | None:
    """Tell UTF-8 in which a few bytes are wrong: another encoding would spoil all of it."""
    text = data.decode("utf-8", "replace")
    right = sum(not character.isascii() for character in text)
    wrong = text.count("\ufffd")
    if right < 10 * wrong:
        return None
    places = "1 place in it is" if wrong == 1 else f"{wrong} places in it are"
    replaced = "is replaced" if wrong == 1 else "are replaced"
    return Encoding("utf-8", f"{places} not UTF-8, and {replaced}", "replace")


def _guessed(data: bytes, error: UnicodeDecodeError) -> Encoding:
    """Guess by how likely the letters would be (the `charset_normalizer` library)."""
    from charset_normalizer import from_bytes  # 0.03 s

    controls = len(data) - len(data.translate(None, _CONTROLS))
    is_text = 50 * controls < len(data)
    found = from_bytes(_sample(data), cp_isolation=list(_LIKELY)) if is_text else ()
    fits = [
        (round(match.chaos, 3), -round(match.coherence, 3), rank, name)
        for match in found
        for rank, name in enumerate(_LIKELY)
        if name in match.could_be_from_charset and _fits(data, name)
    ]
    if not fits:
        raise UnreadableFileError(
            f"not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}), nor text in another "
            "encoding that is known; convert it with iconv"
        )
    name = min(fits)[-1]
    return Encoding(
        name, f"not UTF-8: read as {name}, which is a guess; if it is wrong, convert it with iconv"
    )


def _sample(data: bytes) -> bytes:
    """Return lines that are not ASCII, as many as a guess takes."""
    lines: list[bytes] = []
    size = 0
    start = 0
    while start < len(data) and size < _SAMPLE:
        end = data.find(b"\n", start) + 1 or len(data)
        if not data[start:end].isascii():
            lines.append(_cut(data[start:end]))
            size += len(lines[-1])
        start = end
    return b"".join(lines)


def _cut(line: bytes) -> bytes:
    """Return a line, or what of it begins with its first letter that is not ASCII.

    It ends at a byte that is no part of a character of several bytes, in whatever encoding.
    """
    if len(line) <= _SAMPLE:
        return line
    first = _NOT_ASCII.search(line)
    piece = line[first.start() if first else 0 :][:_SAMPLE]
    ends = [at for at in range(len(piece) - 1, len(piece) // 2, -1) if piece[at] < 0x30]
    return piece[: ends[0]] if ends else piece
