"""Reader of mails (EML: RFC 5322, MIME), with what is attached to them."""

import email
import logging
import tempfile
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path, PurePosixPath

from rag_app.documents.file_types.base import FileReader, ReadInside
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MAX_HEADER = 2000
"""Characters of a header, e.g. of a list of recipients."""

_MAX_PARTS = 1000
_MAX_MARKS = 20_000
_MAX_LINES = 1_000_000
_MAX_DEPTH = 5
"""Of mails that are attached to mails."""

_log = logging.getLogger(__name__)


class MailReader(FileReader):
    """Who wrote to whom, when and about what; the text once; attachments by their own readers.

    Of a text and its HTML the text is taken. An attachment that has no reader is left out with a
    warning.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the mail, and its subject."""
        data = file.read_bytes()
        # The parser keeps an object for each part and each header.
        if data.count(b"\n--") > _MAX_MARKS or data.count(b"\n") > _MAX_LINES:
            raise UnreadableFileError(
                f"it has more than {_MAX_MARKS:,} marks of parts, or {_MAX_LINES:,} lines"
            )
        message = email.message_from_bytes(data)
        if not any(name in message for name in ("From", "Subject", "Received", "Message-ID")):
            raise UnreadableFileError("no mail: it has none of a mail's headers")
        _Mail(budget, FileReader.read_inside).write(message, 0)
        return budget.text.strip(), _header(message, "Subject")


class _Mail:
    """Writes a mail's parts."""

    def __init__(self, budget: Budget, read_inside: ReadInside) -> None:
        self._budget = budget
        self._read_inside = read_inside
        self._parts = 0

    def write(self, message: Message, depth: int) -> None:
        """Write headers, text and attachments."""
        for name in _HEADERS:
            if value := _header(message, name):
                self._budget.write(f"{name}: {value}\n")
        for part in self._shown(message):
            self._budget.check_time()
            if part.get_content_type() == "message/rfc822":
                self._attached_mail(part, depth)
            elif part.get_filename() or part.get_content_disposition() == "attachment":
                self._attached_file(part)
            elif part.get_content_maintype() == "text":
                self._budget.write(f"\n{self._text(part)}\n")

    def _shown(self, message: Message) -> Iterator[Message]:
        """Yield the parts to read; of alternatives the plainest."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise UnreadableFileError(f"it has more than {_MAX_PARTS} parts")
        inside = message.get_payload()
        # An attached mail is not gone into: it is written with headers of its own.
        if not isinstance(inside, list) or message.get_content_type() == "message/rfc822":
            yield message
            return
        parts = [part for part in inside if isinstance(part, Message)]
        if message.get_content_type() == "multipart/alternative":
            plain = [part for part in parts if part.get_content_type() == "text/plain"]
            filled = [part for part in plain if bytes(part.get_payload(decode=True) or b"").strip()]
            parts = (filled or parts[-1:])[:1]  # the last one is the richest
        for part in parts:
            yield from self._shown(part)

    def _text(self, part: Message) -> str:
        data = _data(part)
        text = _decoded(data, part)
        if part.get_content_subtype() != "html":
            return text.strip()
        from rag_app.documents.file_types.page import Page, markdown_of  # 0.2 s with lxml

        return markdown_of(Page(text, self._budget).content(), self._budget).strip()

    def _attached_mail(self, part: Message, depth: int) -> None:
        inside = part.get_payload()
        if isinstance(inside, list) and inside and isinstance(inside[0], Message):
            if depth == _MAX_DEPTH:
                _log.warning("mails in more than %d mails are left out", _MAX_DEPTH)
                return
            self._budget.write("\n## Attached mail\n\n")
            self.write(inside[0], depth + 1)

    def _attached_file(self, part: Message) -> None:
        name = _one_line(_decoded_header(part.get_filename() or "attachment"))
        suffix = PurePosixPath(name.replace("\\", "/")).suffix[:20]
        try:
            with tempfile.TemporaryDirectory(prefix="rag_app-") as folder:
                # Readers take a path. Of the sender's name there is only the
                # suffix in it: names lead anywhere.
                file = Path(folder, f"attachment{suffix}")
                file.write_bytes(_data(part))
                # A part of the same budget: a mail full of archives takes no
                # more than one file may.
                text = self._read_inside(file, self._budget.part())
        except MemoryError:
            raise
        except UnreadableFileError as error:
            _log.warning("the attachment %s is left out: %s", name, error)
        except Exception as error:  # as for the file itself: nothing in one may cost the others
            _log.warning("the attachment %s is left out: truncated or damaged: %s", name, error)
        else:
            # Page breaks go: the pages of what is attached are not the mail's.
            self._budget.write(f"\n## Attachment: {name}\n\n{text.strip()}\n".replace("\f", "\n\n"))


def _data(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _decoded(data: bytes, part: Message) -> str:
    """Decode a text as it says that it is; if it is not, as its bytes tell."""
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeError, ValueError):
        return encoding_of(data).decode(data) if data.strip() else ""


def _header(message: Message, name: str) -> str:
    return _one_line(_decoded_header(str(message.get(name) or "")))


def _decoded_header(value: str) -> str:
    try:
        return str(make_header(decode_header(value[:_MAX_HEADER])))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value[:_MAX_HEADER]


def _one_line(value: str) -> str:
    return " ".join(value.split())
