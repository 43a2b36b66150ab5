"""Files that attack readers of archives, old Office files, OpenDocument and markup languages."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable

from .ole import compound, outlook_mail, word_document
from .test_containers import tarred, zipped
from .test_open_document import odf, p, workbook

Make = Callable[[], bytes]


def nested(depth: int, wide: int = 1) -> bytes:
    data = b"Innermost."
    for level in range(depth):
        name = "text.txt" if not level else "inner.zip"
        data = zipped({f"{n}-{name}": data for n in range(wide)})
    return data


def entries(*infos: tuple[str, bytes, str], mode: str = "w") -> bytes:
    """Return a TAR of links, devices and pipes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, target in infos:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        plain = tarfile.TarInfo("plain.txt")
        plain.size = 5
        archive.addfile(plain, io.BytesIO(b"Text."))
    return out.getvalue()


def lying_tar() -> bytes:
    data = bytearray(tarred({"a.txt": b"Text."}, "w"))
    data[124:136] = b"77777777777\0"  # its size
    return bytes(data)


def changed(data: bytes, at: int, value: int) -> bytes:
    made = bytearray(data)
    place = made.index(struct.pack("<H", 0xA5EC)) + at
    struct.pack_into("<I", made, place, value)
    return bytes(made)


def loop_of_sectors() -> bytes:
    data = bytearray(compound({"WordDocument": bytes(9000), "1Table": bytes(9000)}))
    table = len(data) - 512
    struct.pack_into("<I", data, table + 4 * 3, 0)
    return bytes(data)


def sheet_of(rows: str) -> bytes:
    return odf(
        f'<office:spreadsheet><table:table table:name="S">{rows}</table:table></office:spreadsheet>'
    )


WORD = word_document("Some text.\r")

ARCHIVES: dict[str, Make] = {
    "bomb.zip": lambda: zipped({"a.txt": bytes(150_000_000)}),
    "bombs.zip": lambda: zipped({f"{n}.txt": b"0" * 9_000_000 for n in range(20)}),
    "bomb of bombs.zip": lambda: zipped({f"{n}.zip": nested(3, 8) for n in range(8)}),
    "deep.zip": lambda: nested(40),
    "wide.zip": lambda: nested(4, 10),
    "many.zip": lambda: zipped({f"{n}.txt": b"" for n in range(25_000)}),
    "climbing.zip": lambda: zipped({"../../etc/passwd": b"x", "/etc/shadow": b"y"}),
    "odd names.zip": lambda: zipped({"\n# a\x1b[2J.txt": b"x", "a" * 60_000 + ".txt": b"y"}),
    "broken in it.zip": lambda: zipped({"a.docx": b"PK\x03\x04", "b.pdf": b"%PDF-", "c.md": b"ok"}),
    "half.zip": lambda: zipped({"a.txt": b"text " * 999})[:200],
    "empty.zip": lambda: zipped({}),
    "bomb.tar.gz": lambda: tarred({"a.txt": bytes(150_000_000)}),
    "bomb.tar.bz2": lambda: bz2.compress(tarred({"a.txt": bytes(30_000_000)}, "w")),
    "bomb.tar.xz": lambda: lzma.compress(tarred({"a.txt": bytes(60_000_000)}, "w")),
    "gz of zeros.tgz": lambda: gzip.compress(bytes(100_000_000)),
    "links.tar": lambda: entries(
        ("a", tarfile.SYMTYPE, "/etc/passwd"),
        ("b", tarfile.LNKTYPE, "a"),
        ("c", tarfile.CHRTYPE, ""),
        ("d", tarfile.FIFOTYPE, ""),
    ),
    "many links.tar": lambda: entries(*((f"{n}", tarfile.SYMTYPE, "x") for n in range(21_000))),
    "lying.tar": lying_tar,
    "half.tar.gz": lambda: tarred({"a.txt": b"text " * 9999})[:100],
    "no archive.tar": lambda: b"text",
}
OLD: dict[str, Make] = {
    "half.doc": lambda: WORD[:1500],
    "loop.doc": loop_of_sectors,
    "empty.doc": lambda: compound({"WordDocument": b"", "1Table": b""}),
    "pieces nowhere.doc": lambda: changed(WORD, 0x1A2, 0xFFFF_FFF0),
    "pieces without end.doc": lambda: changed(WORD, 0x1A6, 0xFFFF_FFF0),
    "paragraphs nowhere.doc": lambda: changed(WORD, 0x102, 0x7FFF_FFFF),
    "characters without end.doc": lambda: changed(WORD, 0x4C, 0xFFFF_FFFF),
    "fields.doc": lambda: word_document("\x13" * 100_000 + "text\r"),
    "cells.doc": lambda: word_document("\x07" * 100_000 + "text\r"),
    "garbage.doc": lambda: compound({"WordDocument": bytes(range(256)) * 40}),
    "half.xls": lambda: workbook()[:3000],
    "garbage.xls": lambda: compound({"Workbook": bytes(range(256)) * 40}),
    "zeros.xls": lambda: compound({"Workbook": bytes(50_000)}),
    "text.xls": lambda: b"only text",
    "half.msg": lambda: outlook_mail("x", "y", {})[:2000],
    "no class.msg": lambda: compound({"__properties_version1.0": bytes(64)}),
    "attached mails.msg": lambda: outlook_mail("x", "y", {"a.msg": outlook_mail("z", "w", {})}),
    "many attachments.msg": lambda: outlook_mail("x", "y", {f"{n}.txt": b"t" for n in range(1500)}),
    "mails.mbox": lambda: b"From a@b\nSubject: x\nFrom: a@b\n\ntext\n\n" * 20_000,
    "one line.mbox": lambda: b"From " + b"x" * 5_000_000,
    "header alone.mbox": lambda: b"From a@b\n\n",
}
OPEN: dict[str, Make] = {
    "repeated rows.ods": lambda: sheet_of(
        '<table:table-row table:number-rows-repeated="9999999">'
        f'<table:table-cell table:number-columns-repeated="9999999">{p("x" * 500)}'
        "</table:table-cell></table:table-row>"
    ),
    "spans.ods": lambda: sheet_of(
        '<table:table-row><table:table-cell table:number-columns-spanned="9999999" '
        f'table:number-rows-spanned="9999999">{p("x")}</table:table-cell></table:table-row>' * 3000
    ),
    "deep.odt": lambda: odf("<text:section>" * 20_000),
    "lists.odt": lambda: odf("<text:list><text:list-item>" * 400 + p("x")),
    "spaces.odt": lambda: odf(p('<text:s text:c="9999999"/>' * 1000 + "x")),
    "spans.odt": lambda: odf(
        "<table:table>" + '<table:table-row><table:table-cell table:number-columns-spanned="1000" '
        f'table:number-rows-spanned="1000">{p("x" * 999)}</table:table-cell></table:table-row>'
        * 200
        + "</table:table>"
    ),
    "entities.odt": lambda: b"".join([odf("")[:10], b"<!ENTITY"]),
    "notes.odp": lambda: odf("<draw:page><presentation:notes>" * 300 + p("x")),
}
MARKUP: dict[str, Make] = {
    "markup/laughs.svg": lambda: b'<!DOCTYPE d [<!ENTITY a "ha">]><svg>&a;</svg>',
    "markup/deep.xml": lambda: b"<a>" * 200_000,
    "markup/deep and closed.xml": lambda: b"<a>" * 900 + b"x" + b"</a>" * 900,
    "markup/attributes.xml": lambda: (
        b"<a " + b" ".join(b'a%d="1"' % n for n in range(99_999)) + b"/>"
    ),
    "markup/wide.xml": lambda: b"<a>" + b"<b>x</b>" * 1_000_000 + b"</a>",
    "markup/half.fb2": lambda: b"<FictionBook><body><section><title><p>One",
    "markup/directives.rst": lambda: b"".join(b" " * n + b".. note:: a\n" for n in range(3000)),
    "markup/literals.rst": lambda: b"::\n" * 200_000,
    "markup/roles.rst": lambda: b":a:`" * 200_000,
    "markup/blocks.adoc": lambda: b"".join(b"-" * (n % 90 + 4) + b"\n" for n in range(50_000)),
    "markup/tables.adoc": lambda: b"|===\n|a\n" * 50_001,
    "markup/drawers.org": lambda: b":PROPERTIES:\n" * 100_000 + b"* x\n",
    "markup/links.org": lambda: b"[[" * 300_000 + b"x",
    "markup/braces.tex": lambda: b"\\section{" * 100_000 + b"x",
    "markup/environments.tex": lambda: b"\\begin{a}" * 100_000 + b"x",
    "markup/formulas.tex": lambda: b"$" * 300_001 + b"x",
    "markup/deep.py": lambda: b"(" * 200_000 + b"x",
    "markup/classes.py": lambda: b"".join(b" " * n + b"class A:\n" for n in range(1500)),
    "markup/definitions.py": lambda: b"def a(): pass\n" * 60_000,
    "markup/not it.ts": lambda: bytes(range(32, 127)) * 9000,
    "markup/svgs.md": lambda: b"<svg " * 200_000,
    "markup/codes.md": lambda: b"`<b>``" * 100_000,
    "picture.png": lambda: b"\x89PNG\r\n\x1a\n" + bytes(999),
}

KINDS: dict[str, Make] = ARCHIVES | OLD | OPEN | MARKUP

SLOW = {
    *("bomb.zip", "bombs.zip", "bomb.tar.gz", "bomb.tar.bz2", "bomb.tar.xz", "gz of zeros.tgz"),
    *("many.zip", "many links.tar", "mails.mbox", "repeated rows.ods", "spans.odt"),
    "spans.ods",
    *("markup/wide.xml", "markup/deep.py", "markup/definitions.py", "markup/directives.rst"),
    *("bomb of bombs.zip", "wide.zip", "many attachments.msg", "markup/not it.ts"),
}
"""More than three seconds to make or to refuse, or kinds that another one stands for."""
