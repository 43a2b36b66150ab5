"""Mails with what is attached to them, and RTF: what a person would read, and no markup."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.read import read

from .hostile import document_xml, docx, page_pdf, paragraph


def told(path: Path, data: bytes, **limits: float) -> tuple[str, str, list[str]]:
    """Return a file's text, title and warnings."""
    path.write_bytes(data)
    warned: list[str] = []
    section = DocumentsSection.model_validate(limits)
    document = read(SourceFile(path.name, path.parent), section, warned)
    return document.text, document.metadata["title"], warned


def mail(subject: str = "Größe der Bestellung", text: str = "The order is late.\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Müller <m@example.org>"
    message["To"] = "all@example.org"
    message["Date"] = "Wed, 25 Nov 2026 10:00:00 +0000"
    message["Subject"] = subject
    message.set_content(text)
    return message


def test_mail_is_its_headers_and_its_text_once(tmp_path: Path) -> None:
    message = mail()
    message.add_alternative("<html><p>The <b>order</b> is late.</p></html>", subtype="html")
    text, title, warned = told(tmp_path / "a.eml", bytes(message))
    assert (title, warned) == ("Größe der Bestellung", [])
    assert text.startswith("From: Müller <m@example.org>\nTo: all@example.org\nDate: Wed, 25 Nov")
    assert text.count("order") == 1
    assert "MIME" not in text


def test_mail_of_html_alone_is_markdown(tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"] = "List"
    message.set_content("<h1>To do</h1><ul><li>one<li>two</ul><script>x()</script>", subtype="html")
    text, _, _ = told(tmp_path / "a.eml", bytes(message))
    assert "# To do\n\n* one\n* two" in text
    assert "x()" not in text


@pytest.mark.parametrize("charset", ["latin-1", "koi8-r", "shift_jis", "utf-8"])
def test_text_of_a_mail_is_decoded(charset: str, tmp_path: Path) -> None:
    said = {"koi8-r": "Это русский текст.", "shift_jis": "日本語です。"}.get(charset, "Größe")
    message = mail()
    message.set_content(said, charset=charset)
    assert said in told(tmp_path / "a.eml", bytes(message))[0]
    undeclared = bytes(message).replace(f'charset="{charset}"'.encode(), b"")
    assert told(tmp_path / "b.eml", undeclared)[0]


def test_attachments_are_read_by_their_readers(tmp_path: Path) -> None:
    message = mail()
    for name, data in {
        "report.pdf": page_pdf(),
        "Übersicht.docx": docx(document_xml(paragraph("Cells of the table."))),
        "../../etc/notes.txt": "Grüße".encode("cp1252"),
        "photo.jpg": b"\xff\xd8\xff\x00\x00",
        "broken.docx": b"no archive",
    }.items():
        message.add_attachment(data, maintype="application", subtype="x", filename=name)
    inner = mail("The earlier one", "It was said before.")
    message.add_attachment(inner)
    text, title, warned = told(tmp_path / "a.eml", bytes(message))
    assert title == "Größe der Bestellung"
    assert "## Attachment: report.pdf\n\nSome readable text." in text
    assert "## Attachment: Übersicht.docx\n\nCells of the table." in text
    assert "Grüße" in text
    assert "## Attached mail\n\nFrom: Müller" in text
    assert "It was said before." in text
    assert [w for w in warned if "photo.jpg is left out: a picture: OCR would read it" in w]
    assert [w for w in warned if "broken.docx is left out" in w]
    assert "\f" not in text


def test_what_is_no_mail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no mail"):
        told(tmp_path / "a.eml", b"Just text.\n")


def test_mails_within_limits(tmp_path: Path) -> None:
    nested = mail("deepest")
    for number in range(20):
        around = mail(f"around {number}")
        around.add_attachment(nested)
        nested = around
    text, _, warned = told(tmp_path / "a.eml", bytes(nested))
    assert text.count("Subject:") == 6
    assert any("are left out" in warning for warning in warned)
    bomb = mail()
    for _ in range(3):
        data = docx(document_xml(paragraph("0" * 400_000)))
        bomb.add_attachment(data, maintype="a", subtype="b", filename="a.docx")
    text, _, warned = told(tmp_path / "b.eml", bytes(bomb), max_file_size_mb=1)
    assert len(text) < 1_000_000
    assert any("million characters" in warning for warning in warned)
    many = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 5000
    with pytest.raises(UnreadableFileError, match="more than 1000 parts"):
        told(tmp_path / "c.eml", many)
    header = b"Subject: " + b"=?utf-8?q?" * 50_000 + b"\nTo: " + b"a@b, " * 200_000 + b"\n\ntext"
    assert "text" in told(tmp_path / "d.eml", header)[0]


RTF = rb"""{\rtf1\ansi\ansicpg1252\deff0\uc1
{\fonttbl{\f0\fswiss Arial;}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset128 MS Gothic;}}
{\colortbl;\red0\green0\blue0;}{\*\generator Writer;}
{\info{\title Handbook of \'c4pfel}{\author Nobody}}
{\header Running head}
\pard\b Chapter one\b0\par
Caf\'e9 \u8364? and \u-10179?\u-8704? and \{braces\}.\line Next line.\par
{\f1 \'cf\'f0\'e8\'e2\'e5\'f2} {\f2 \'93\'fa\'96\'7b}\par
\trowd\intbl Name\cell Amount\cell\row
\trowd\intbl Screws\cell 12\cell\row
\pard{\field{\*\fldinst{HYPERLINK "http://example.org"}}{\fldrslt{the link}}}
{\pict\pngblip 89504e470d0a1a0a}{\pict\bin7 {}{}{}x}{\footnote A note.}\par
}"""


def test_rtf_is_its_text(tmp_path: Path) -> None:
    text, title, warned = told(tmp_path / "a.rtf", RTF)
    assert (title, warned) == ("Handbook of Äpfel", [])
    assert text == (
        "Chapter one\n\nCafé € and 😀 and {braces}.\nNext line.\n\nПривет 日本\n\n"  # noqa: RUF001
        "Name | Amount | \nScrews | 12 | \nthe linkA note."
    )


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"{\\rtf1 " + b"{" * 300_000, "nested more than"),
        (b"{\\rtf1 " + b"\\'e9" * 200_000, ""),
        (b"{\\rtf1 " + b"}" * 100_000 + b"text", ""),
        (b"{\\rtf1 \\bin999999999 x", "no text in it"),
        (b"{\\rtf1 \\u-99999999? \\ansicpg99999 \\uc999999999 \\f-5 x y}", ""),
        (b"{\\rtf1 " + b'{\\field{\\*\\fldinst{HYPERLINK "' * 25_000, "nested more than"),
        (b"text", "does not begin as RTF does"),
    ],
    ids=range(7),
)
def test_hostile_rtf(data: bytes, outcome: str, tmp_path: Path) -> None:
    if not outcome:
        assert told(tmp_path / "a.rtf", data)[0]
        return
    with pytest.raises(UnreadableFileError, match=outcome):
        told(tmp_path / "a.rtf", data, max_file_size_mb=1)
