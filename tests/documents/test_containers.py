"""Files in files, and Office's old ones: names, places and limits."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import read
from tests.conftest import words

from . import hostile
from .ole import compound, outlook_mail, word_document
from .test_file_types import pdf_bytes
from .test_mail_and_rtf import RTF, mail, told
from .test_office import workbook

LONG = "It goes on for a while, with words that fill a passage and say nothing further. " * 3
MEMBERS: dict[str, bytes] = {
    "a/notes.md": b"# Notes\n\nPlain.\n\n```\n# code\n```\n",
    "a/tool.py": b"# comment\nx = 1\n",
    "b/orders.xlsx": workbook(),
    ".hidden": b"secret",
    "__MACOSX/x": b"secret",
    "broken.docx": b"PK",
    "picture.jpg": b"\xff\xd8\xff\x00\x00",
}


def zipped(members: dict[str, bytes]) -> bytes:
    return hostile.zipped(members.items())


def tarred(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def headings_of(file: Path, text: str) -> str:
    """Return the headings of the node with a text."""
    document = read(SourceFile(file.name, file.parent), DocumentsSection())
    nodes = NodeParser(ChunkingSection(size=16, overlap=0), words, 100).split(document)
    return next(str(node.metadata["headings"]) for node in nodes if text in node.text)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", zipped(MEMBERS)),
        ("a.tar.gz", tarred(MEMBERS)),
        ("a.tgz", tarred(MEMBERS)),
        ("a.tar", tarred(MEMBERS, "w")),
        ("a.tar.xz", tarred(MEMBERS, "w:xz")),
    ],
)
def test_archives_are_looked_into(name: str, data: bytes, tmp_path: Path) -> None:
    text, _, warned = told(tmp_path / name, data)
    assert "## a/notes.md\n\n### Notes\n\nPlain.\n\n```\n# code\n```\n" in text
    assert "## a/tool.py\n\n```\n# comment\nx = 1\n```\n" in text
    assert "## b/orders.xlsx\n\n#### Orders\n" in text
    assert "secret" not in text
    assert len(warned) == 2
    assert any("the file picture.jpg is left out: a picture" in each for each in warned)
    assert headings_of(tmp_path / name, "Screws") == "b/orders.xlsx › Orders › rows 1-4"


def test_archives_in_archives_up_to_a_depth(tmp_path: Path) -> None:
    data = b"The innermost text."
    for depth in range(9):
        data = zipped({"text.txt" if not depth else "inner.zip": data, "beside.txt": b"Beside."})
    text, _, warned = told(tmp_path / "a.zip", data)
    assert text.count("Beside.") == 5
    assert "the file inner.zip is left out: it is in more than 5 others" in warned


def test_mailbox_is_its_mails(tmp_path: Path) -> None:
    mails = [bytes(mail(f"Subject {number}", f"Said {number}.\n")) for number in range(3)]
    box = b"".join(b"From a@b Wed Nov 25 10:00:00 2026\n" + each + b"\n\n" for each in mails)
    text, _, _ = told(tmp_path / "a.mbox", box)
    assert text.count("From: M") == 3
    assert "## Subject 1\n\nFrom: Müller" in text
    assert headings_of(tmp_path / "a.mbox", "Said 2.").startswith("Subject 2 › mail 3")


def test_attachments_of_a_mail_are_cited_with_their_pages(tmp_path: Path) -> None:
    message = mail()
    pages = pdf_bytes(LONG, f"Pumps are oiled weekly. {LONG}", LONG)
    message.add_attachment(pages, maintype="application", subtype="pdf", filename="report.pdf")
    attached = zipped({"b/plan.pdf": pdf_bytes(LONG, f"The plan is secret. {LONG}")})
    message.add_attachment(attached, maintype="application", subtype="zip", filename="all.zip")
    (tmp_path / "a.eml").write_bytes(bytes(message))
    found = headings_of(tmp_path / "a.eml", "oiled weekly")
    assert found.startswith("Attachment: report.pdf › page")
    assert "2" in found.split()[-1]
    found = headings_of(tmp_path / "a.eml", "plan is secret")
    assert found.startswith("Attachment: all.zip › b/plan.pdf › page")


def test_outlook_mail_is_read_with_its_attachments(tmp_path: Path) -> None:
    data = outlook_mail(
        "Größe", "It is late.\r\n", {"notes.md": b"# Notes\n\nOil.", "x.dat": b"\0"}
    )
    text, title, warned = told(tmp_path / "a.msg", data)
    assert title == "Größe"
    assert text.startswith("From: Ada <ada@example.org>\nTo: Bob <bob@example.org>\nSubject: Größe")
    assert "It is late." in text
    assert text.endswith("## Attachment: notes.md\n\n### Notes\n\nOil.")
    assert warned == ["the attachment x.dat is left out: binary: no reader for .dat"]


@pytest.mark.parametrize(
    "before",
    [
        "On Monday, Ada wrote:\n> first\n> second",
        "-----Original Message-----\nFrom: Ada\nfirst",
        "From: Ada <a@b>\nSent: Monday\nTo: Bob\n\nfirst",
        "Am Montag schrieb Ada:\n> first",
    ],
)
def test_history_is_marked_as_quoted(before: str, tmp_path: Path) -> None:
    message = mail(text=f"My answer.\n\n{before}\n")
    text, _, _ = told(tmp_path / "a.eml", bytes(message))
    _, _, quoted = text.partition("My answer.\n\n")
    assert all(line.startswith(">") for line in quoted.split("\n"))
    assert "first" in quoted


def test_apple_and_saved_pages_are_mails(tmp_path: Path) -> None:
    data = bytes(mail())
    rest = b'<?xml version="1.0"?><plist/>'
    text, _, _ = told(tmp_path / "a.emlx", b"%d   \n" % len(data) + data + rest)
    assert text.endswith("The order is late.")
    page = b"From: <Saved by Blink>\nSubject: Page\nMIME-Version: 1.0\nContent-Type: text/html\n\n"
    assert "Shown." in told(tmp_path / "a.mhtml", page + b"<p>Shown.</p>")[0]


def test_old_word_document_has_headings_notes_and_comments(tmp_path: Path) -> None:
    text = (
        "Pumps\rCare\rOil \x13 HYPERLINK x \x14the link\x15 weekly\x02.\r"
        "Name\x07Sum\x07\x07Größe\x0712\x07\x07Ende\x1f.\r"
    )
    data = word_document(text, notes="\x02 A note.\r", comments="Really?\r", headings=2)
    told_text, _, warned = told(tmp_path / "a.doc", data)
    assert warned == []
    assert told_text == (
        "# Pumps\n\n## Care\n\nOil the link weekly.\n\nName | Sum | \nGröße | 12 | \nEnde.\n\n"
        "[Note: A note.]\n\n[Comment: Really?]"
    )


def test_what_is_only_called_doc_is_read_as_it_is(tmp_path: Path) -> None:
    assert told(tmp_path / "a.doc", RTF)[0].startswith("Chapter one")
    assert told(tmp_path / "a.doc", hostile.docx())[0] == "A plain paragraph."
    assert told(tmp_path / "a.doc", b"<html><p>Page.</p>")[0] == "Page."


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.zip", zipped({}), "no file in it"),
        ("a.zip", b"PK\x03\x04" + bytes(100), "truncated or damaged"),
        ("a.zip", zipped({"a.txt": bytes(300_000_000)}), "zip bomb"),
        ("a.tar.gz", tarred({"a.txt": bytes(60_000_000)}), "zip bomb"),
        ("a.zip", zipped({f"{n}.txt": b"" for n in range(21_000)}), "more than 20,000 files"),
        ("a.tar", b"text", "truncated or damaged"),
        ("a.mbox", b"text", "no mailbox"),
        ("a.msg", b"text", "no Outlook mail"),
        ("a.msg", compound({"x": b"y"}), "truncated or damaged|no Outlook mail"),
        ("a.doc", b"text", "no Word document"),
        ("a.doc", compound({"x": b"y"}), "no Word document"),
        ("a.doc", word_document("Text.\r", flags=0x100), "encrypted"),
        ("a.doc", word_document("Text.\r")[:1600], "truncated or damaged"),
    ],
    ids=range(13),
)
def test_broken_containers_say_why(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        told(tmp_path / name, data)


def test_encrypted_members_are_left_out(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": b"Secret.", "b.txt": b"Open."}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    text, _, warned = told(tmp_path / "a.zip", bytes(data))
    assert text == "## b.txt\n\nOpen."
    assert warned == ["the file a.txt is left out: encrypted: it asks for a password"]
    assert zipfile.is_zipfile(tmp_path / "a.zip")
