"""Hostile and odd mails and office files: as `hostile`, whose `KINDS` has them."""

import base64
from collections.abc import Callable

Make = Callable[[], bytes]


def attached(name: str, data: bytes) -> bytes:
    """Return a mail with one file."""
    return (
        b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Disposition: attachment; filename=%b\nContent-Transfer-Encoding: base64\n\n"
        % name.encode()
        + base64.encodebytes(data)
        + b"--b--\n"
    )


def deep_parts(depth: int) -> bytes:
    mail = b"Subject: x\n"
    for level in range(depth):
        mail += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
    return mail + b"\ntext"


MAILS: dict[str, Make] = {
    "many parts.eml": lambda: (
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 15_000
    ),
    "more parts.eml": lambda: (
        b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 2_000_000
    ),
    "many headers.eml": lambda: b"Subject: x\n" + b"a: b\n" * 900_000 + b"\ntext",
    "more headers.eml": lambda: b"Subject: x\n" + b"a: b\n" * 5_000_000 + b"\ntext",
    "deep parts.eml": lambda: deep_parts(2000),
    "long header.eml": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 500_000 + b"\n\ntext",
    "folded header.eml": lambda: b"Subject: a" + b"\n b" * 400_000 + b"\n\ntext",
    "odd charset.eml": lambda: b"Subject: x\nContent-Type: text/plain; charset=none-such\n\ntext",
    "odd encoding.eml": lambda: (
        b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!!text"
    ),
    "no end.eml": lambda: b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext",
    "no headers.eml": lambda: b"text",
    "escapes in the subject.eml": lambda: b"Subject: =?utf-8?b?G10wO3gH4oCu?=\n\ntext",
    "bomb attached.eml": lambda: attached("a.html", b"<p>x</p>" * 600_000),
    "climbing name.eml": lambda: attached("../../../etc/passwd", b"text"),
}

RTF: dict[str, Make] = {
    "braces.rtf": lambda: b"{\\rtf1 " + b"{" * 2_000_000,
    "closed.rtf": lambda: b"{\\rtf1 x" + b"}" * 2_000_000,
    "hex.rtf": lambda: b"{\\rtf1 " + b"\\'e9" * 500_000 + b"}",
    "picture.rtf": lambda: b"{\\rtf1 text{\\pict " + b"0f\n" * 4_000_000 + b"}}",
    "binary that lies.rtf": lambda: b"{\\rtf1 text \\bin999999999 x}",
    "links.rtf": lambda: b"{\\rtf1 " + b'{\\field{\\*\\fldinst{HYPERLINK "' * 100_000,
    "fonts.rtf": lambda: b"{\\rtf1{\\fonttbl" + b"{\\f1\\fcharset204 x;}" * 100_000 + b"}text}",
    "numbers.rtf": lambda: b"{\\rtf1 \\u-999999999? \\ansicpg9999999 \\uc99999 \\f-1 x y}",
    "half.rtf": lambda: b"{\\rtf1 text \\'e",
    "no RTF.rtf": lambda: b"text",
}

KINDS = MAILS | RTF
