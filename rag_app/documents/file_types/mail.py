"""Reader of mails (EML: RFC 5322, MIME), with what is attached to them."""

import email
import logging
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from itertools import pairwise
from pathlib import Path

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.inside import write_inside
from rag_app.documents.file_types.limits import Budget, UnreadableFileError

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MAX_HEADER = 2000
"""Characters of a header, e.g. of a list of recipients."""

_MAX_PARTS = 1000
_MAX_MARKS = 20_000
_MAX_LINES = 1_000_000
_MAX_DEPTH = 5
"""Of mails that are attached to mails."""

_EMLX = re.compile(rb"\s*(\d{1,12})\s*\n")
_BEGINS = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]{1,1000}\n")
_HISTORY = re.compile(
    r"^(?:-{2,} ?(?:Original Message|Forwarded message|Urspr\u00fcngliche Nachricht) ?-{2,}"
    r"|(?:From|Von|De): [^\n]{1,300}\n(?:Sent|Date|Gesendet|Envoy\u00e9)[^\n:]{0,10}: "
    r"|(?:On|Am|Le) [^\n]{5,300}(?:wrote|schrieb[^\n]{0,100}|a \u00e9crit) ?:[ \t]*$)",
    re.MULTILINE,
)
"""How programs introduce the mail that is answered."""

_log = logging.getLogger(__name__)


class MailReader(FileReader):
    """Who wrote to whom, when and about what; the text once; attachments by their own readers.

    Of a text and its HTML the text is taken. An attachment that has no reader is left out with a
    warning.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the mail, and its subject."""
        data = file.read_bytes()
        if file.suffix.lower() == ".emlx" and (size := _EMLX.match(data)):
            # Apple's: the length of the mail, and what the program knows of it behind it.
            data = data[size.end() : size.end() + int(size[1])]
        # The parser keeps an object for each part and each header.
        if data.count(b"\n--") > _MAX_MARKS or data.count(b"\n") > _MAX_LINES:
            raise UnreadableFileError(
                f"it has more than {_MAX_MARKS:,} marks of parts, or {_MAX_LINES:,} lines"
            )
        message = email.message_from_bytes(data)
        if not any(name in message for name in ("From", "Subject", "Received", "Message-ID")):
            raise UnreadableFileError("no mail: it has none of a mail's headers")
        _Mail(budget).write(message, 0)
        return budget.text.strip(), _header(message, "Subject")


class MboxReader(FileReader):
    """The mails of a mailbox (mbox), each below its subject."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the mails in their order."""
        data = file.read_bytes()
        begins = [found.start() for found in _BEGINS.finditer(data)]
        if not begins or data[: begins[0]].strip():
            raise UnreadableFileError('no mailbox: it does not begin with "From "')
        for number, (start, end) in enumerate(pairwise([*begins, len(data)]), start=1):
            budget.check_time()
            mail = data[data.find(b"\n", start) + 1 : end]
            if mail.count(b"\n--") > _MAX_MARKS or mail.count(b"\n") > _MAX_LINES:
                _log.warning("mail %d is left out: it has too many parts or lines", number)
                continue
            message = email.message_from_bytes(mail)
            budget.place("", "mail", number)
            budget.write(f"## {_header(message, 'Subject') or f'Mail {number}'}\n\n")
            _Mail(budget).write(message, 0)
            budget.write("\n\n")
        return budget.text.strip(), None


class _Mail:
    """Writes a mail's parts."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
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
            return marked_history(text.strip())
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
        name = _decoded_header(part.get_filename() or "attachment")
        write_inside(self._budget, name, _data(part), "Attachment: ")


def marked_history(text: str) -> str:
    """Mark what a mail repeats of earlier ones as a quotation, where it does not itself."""
    found = _HISTORY.search(text)
    if found is None or not text[: found.start()].strip():
        return text
    earlier = text[found.start() :].strip("\n").split("\n")
    quoted = "\n".join(line if line.startswith(">") else f"> {line}".rstrip() for line in earlier)
    return f"{text[: found.start()].rstrip()}\n\n{quoted}"


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
