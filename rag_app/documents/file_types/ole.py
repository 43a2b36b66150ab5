"""Compound files (MS-CFB), which Office's old files and Outlook's mails are."""

from pathlib import Path

from rag_app.documents.file_types.limits import UnreadableFileError

OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def check_ole(file: Path, what: str) -> None:
    """Refuse a file that is none.

    Raises
    ------
    UnreadableFileError
        With what it should be in the message: "Outlook mail".
    """
    with file.open("rb") as opened:
        if opened.read(8) != OLE_MAGIC:
            raise UnreadableFileError(f"truncated or damaged: no {what}")
