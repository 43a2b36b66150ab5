"""Reader of Outlook's mails (MS-OXMSG, .msg; python-oxmsg)."""

import logging
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.inside import one_line, write_inside
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.mail import marked_history
from rag_app.documents.file_types.ole import check_ole

_MAX_ATTACHMENTS = 1000
_MAX_HEADER = 2000

_log = logging.getLogger(__name__)


class MsgReader(FileReader):
    """Who wrote to whom, when and about what; the text once; attachments by their own readers."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the mail, and its subject."""
        from oxmsg import Message  # 0.1 s

        check_ole(file, "Outlook mail")
        message = Message.load(str(file))
        if not (message.message_class or "").upper().startswith("IPM"):
            raise UnreadableFileError("no Outlook mail: it has no message class")
        recipients = ", ".join(_address(each) for each in message.recipients[:1000])
        headers = {
            "From": message.sender,
            "To": recipients,
            "Date": message.sent_date,
            "Subject": message.subject,
        }
        for name, value in headers.items():
            if value:
                budget.write(f"{name}: {one_line(str(value)[:_MAX_HEADER])}\n")
        budget.write(f"\n{_text(message, budget)}\n")
        attachments = message.attachments
        for attachment in attachments[:_MAX_ATTACHMENTS]:
            budget.check_time()
            name = attachment.file_name or "attachment"
            data = attachment.file_bytes if attachment.attached_by_value else None
            if data:
                write_inside(budget, name, data, "Attachment: ")
            else:
                _log.warning("the attachment %s is left out: it is no file", one_line(name))
        return budget.text.strip(), message.subject


def _address(recipient: Any) -> str:
    name, address = recipient.name or "", recipient.email_address or ""
    return f"{name} <{address}>" if name and address and name != address else name or address


def _text(message: Any, budget: Budget) -> str:
    if body := (message.body or "").strip():
        return marked_history(body.replace("\r\n", "\n"))
    if not message.html_body:
        return ""
    from rag_app.documents.file_types.page import Page, markdown_of  # 0.2 s with lxml

    return markdown_of(Page(message.html_body, budget).content(), budget).strip()
