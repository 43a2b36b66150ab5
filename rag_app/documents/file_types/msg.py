"""Reader of Outlook's mails (MS-OXMSG, .msg; olefile)."""

import logging
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.inside import one_line, write_inside
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.mail import marked_history
from rag_app.documents.file_types.ole import check_ole

_CLASS, _SUBJECT, _BODY, _HTML = "001A", "0037", "1000", "1013"
_FROM_NAME, _FROM_ADDRESS, _SMTP_ADDRESS = "0C1A", "0C1F", "5D01"
_TO_NAME, _TO_ADDRESS, _TO_SMTP = "3001", "3003", "39FE"
_DATA, _LONG_NAME, _SHORT_NAME = "3701", "3707", "3704"
"""Tags of properties (MS-OXPROPS); each text and each binary value is a stream of its own."""

_SENT = {0x0039_0040, 0x0E06_0040}
"""When it was sent, or received."""

_MAX_PARTS = 1000
_MAX_HEADER = 2000

_log = logging.getLogger(__name__)


class MsgReader(FileReader):
    """Who wrote to whom, when and about what; the text once; attachments by their own readers."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the mail, and its subject."""
        import olefile  # 0.03 s

        check_ole(file, "Outlook mail")
        with olefile.OleFileIO(file) as ole:
            mail = _Properties(ole, "")
            if not mail.text(_CLASS).upper().startswith("IPM"):
                raise UnreadableFileError("no Outlook mail: it has no class of one")
            folders = sorted({path[0] for path in ole.listdir() if len(path) > 1})
            to = [each for each in folders if each.startswith("__recip_version1.0_")][:_MAX_PARTS]
            subject = mail.text(_SUBJECT)
            headers = {
                "From": _address(mail, _FROM_NAME, _SMTP_ADDRESS, _FROM_ADDRESS),
                "To": ", ".join(
                    _address(_Properties(ole, each), _TO_NAME, _TO_SMTP, _TO_ADDRESS) for each in to
                ),
                "Date": mail.sent(),
                "Subject": subject,
            }
            for name, value in headers.items():
                if value:
                    budget.write(f"{name}: {one_line(value[:_MAX_HEADER])}\n")
            budget.write(f"\n{_text(mail, budget)}\n")
            attached = [each for each in folders if each.startswith("__attach_version1.0_")]
            for each in attached[:_MAX_PARTS]:
                budget.check_time()
                _write_attachment(_Properties(ole, each), budget)
        return budget.text.strip(), subject


class _Properties:
    """The properties of a mail, a recipient or an attachment."""

    def __init__(self, ole: Any, folder: str) -> None:
        self._ole = ole
        self._folder = f"{folder}/" if folder else ""

    def text(self, tag: str) -> str:
        """Return a text: UTF-16, or of a code page that is told by its letters."""
        if wide := self._stream(f"__substg1.0_{tag}001F"):
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        narrow = (self._stream(f"__substg1.0_{tag}001E") or b"").rstrip(b"\0")
        return encoding_of(narrow).decode(narrow) if narrow.strip() else ""

    def data(self, tag: str) -> bytes | None:
        """Return bytes; None where there are none."""
        return self._stream(f"__substg1.0_{tag}0102")

    def sent(self) -> str:
        """Return when the mail was sent, in UTC."""
        rows = self._stream("__properties_version1.0") or b""
        for at in range(32, len(rows) - 15, 16):
            tag, _, value = struct.unpack_from("<IIQ", rows, at)
            # In tenths of microseconds since 1601.
            if tag in _SENT and 0 < value < 2**58:
                moment = datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=value // 10)
                return moment.isoformat(" ", "seconds")
        return ""

    def _stream(self, name: str) -> bytes | None:
        place = self._folder + name
        if not self._ole.exists(place) or self._ole.get_type(place) != 2:
            return None
        data: bytes = self._ole.openstream(place).read()
        return data


def _address(of: _Properties, name_tag: str, *address_tags: str) -> str:
    name = of.text(name_tag)
    # An address of Exchange ("/O=…") says nothing to a person.
    address = next((a for a in map(of.text, address_tags) if "@" in a), "")
    return f"{name} <{address}>" if name and address and name != address else name or address


def _text(mail: _Properties, budget: Budget) -> str:
    if body := mail.text(_BODY).strip():
        return marked_history(body.replace("\r\n", "\n"))
    page = mail.data(_HTML) or mail.text(_HTML).encode()
    if not page.strip():
        return ""
    from rag_app.documents.file_types.page import Page, markdown_of  # 0.2 s with lxml

    markup = encoding_of(page).decode(page)
    return markdown_of(Page(markup, budget).content(), budget).strip()


def _write_attachment(attachment: _Properties, budget: Budget) -> None:
    name = attachment.text(_LONG_NAME) or attachment.text(_SHORT_NAME) or "attachment"
    data = attachment.data(_DATA)
    if data:
        write_inside(budget, name, data, "Attachment: ")
    else:
        _log.warning("the attachment %s is left out: it is no file", one_line(name))
