"""Nothing is read as raw markup: XML, drawings, hidden values, and what a suffix does not tell."""

from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.file_types.markup import without_markup
from rag_app.documents.read import read

from .test_mail_and_rtf import RTF, mail, told

DOCBOOK = """<?xml version="1.0"?>
<!DOCTYPE article PUBLIC "-//OASIS//DTD DocBook XML V4.2//EN" "http://x/docbookx.dtd">
<article><title>Pumps</title><section id="s1"><title>Care</title>
<para>Oil the <emphasis>bearing</emphasis> weekly.</para><script>x()</script>
<itemizedlist><listitem><para>One</para></listitem></itemizedlist></section></article>"""
DATA = """<servers xmlns:x="u"><server host="db1" port="5432"><x:owner>Ada</x:owner></server>
<server host="db2"/><note>Restart &amp; wait</note></servers>"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg"><defs><style>.a{fill:red}</style></defs>'
    '<title>Flow</title><path d="M0 0L9 9"/><text x="1">Step <tspan>one</tspan></text></svg>'
)
XBRL = """<html xmlns:ix="http://www.xbrl.org/2013/inlineXBRL"><body>
<div style="display: none"><ix:header><ix:hidden>
<ix:nonNumeric name="dei:X">0000320193</ix:nonNumeric>
</ix:hidden><ix:resources><xbrli:context id="c"/></ix:resources></ix:header></div>
<p>Revenue was <ix:nonFraction name="us-gaap:Revenue">394</ix:nonFraction> million.</p></body>
</html>"""


@pytest.mark.parametrize(
    ("name", "content", "text", "title"),
    [
        (
            "a.xml",
            DOCBOOK,
            "# Pumps\n\n## Care\n\nOil the bearing weekly.\n\nOne",
            "Pumps",
        ),
        (
            "a.xml",
            DATA,
            "server host: db1, port: 5432\nowner: Ada\nserver host: db2\nRestart & wait",
            "a",
        ),
        ("a.svg", SVG, "Flow\n\nStep one", "a"),
        ("noted", f'<?xml version="1.0"?>\n{SVG}', "Flow\n\nStep one", "noted"),
        ("a.htm", XBRL, "Revenue was 394 million.", "a"),
        ("a.xml", f'<?xml version="1.0"?>{XBRL}', "Revenue was 394 million.", "a"),
        ("page", "<!DOCTYPE html><title>T</title><p>Text.", "Text.", "T"),
    ],
)
def test_markup_is_not_indexed(
    name: str, content: str, text: str, title: str, tmp_path: Path
) -> None:
    assert told(tmp_path / name, content.encode()) == (text, title, [])


@pytest.mark.parametrize("name", ["letter", "letter.txt", "letter.dat"])
def test_rtf_and_mails_are_told_by_how_they_begin(name: str, tmp_path: Path) -> None:
    assert told(tmp_path / name, RTF)[0].startswith("Chapter one")
    text, title, _ = told(tmp_path / name, bytes(mail()))
    assert (title, text[:5]) == ("Größe der Bestellung", "From:")
    assert "Content-Type" not in text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.svg", '<svg xmlns="x"><path d="M0 0"/></svg>', "a drawing without words"),
        ("a.xml", "<a><b></a>", "no well-formed XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "declares entities"),
        ("a.key", "PK\0\0", "binary: no reader for .key: export it as an Office file or PDF"),
        ("a.ppt", "\0\0", "binary: no reader for .ppt: soffice"),
    ],
)
def test_what_is_not_read_has_its_reason(
    name: str, content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableFileError, match=reason):
        read(SourceFile(name, tmp_path), DocumentsSection())


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("Text <b>bold</b> &amp; more<br>next", "Text bold & more\nnext"),
        ("a <!-- comment\n\nover lines --> b", "a  b"),
        (f"Before\n\n{SVG}\n\nafter", "Before\n\nafter"),
        ("`<b>` stays, <name> and List<String> too", "`<b>` stays, <name> and List<String> too"),
        ("```html\n<b>code</b>\n```\n<i>x</i>", "```html\n<b>code</b>\n```\nx"),
        ("see <https://example.org> & <me@example.org>", None),
        (
            "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td><b>2</b></td></tr></table>",
            "\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n\n",
        ),
        ("<h2 align='center'>Title</h2>", "\n\n## Title\n\n"),
        ("<script>never closed", "<script>never closed"),
        ("no markup at 1 < 2 & 3", None),
    ],
)
def test_markdown_keeps_no_html(markdown: str, text: str | None) -> None:
    assert without_markup(markdown) == (markdown if text is None else text)


@pytest.mark.parametrize("piece", ["<svg ", "<!-- ", "<a ", "`<b>", "``` ", "<table><tr>", "&#1"])
def test_markup_without_end_takes_its_length_in_time(piece: str) -> None:
    assert without_markup(piece * (500_000 // len(piece)))
