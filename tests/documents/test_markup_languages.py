"""Texts in languages of markup become Markdown, and source code is cut by its definitions."""

from pathlib import Path

import pytest

from rag_app.config.sections import ChunkingSection, DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.node_parser import NodeParser
from rag_app.documents.read import read

from .hostile import WORD, docx, zipped
from .test_mail_and_rtf import told

RST = """
=======
Manual
=======

.. _care:

Care of pumps
-------------

Use :func:`oil <pkg.oil>` with ``--fast``, see `the site <https://x.org>`_::

    oil --fast

.. note:: Every week.

   And after rain.

.. code-block:: python
   :linenos:

   x = 1

.. image:: a.png
   :alt: gone

.. a comment
   over lines

Deeper
~~~~~~
End.
"""
ASCIIDOC = """= Manual
:toc: left
// a comment

== Care

.Title of it
[source,python]
----
x = 1  # = no heading
----

* One
** Inner link:a.html[the link]
. First

|===
|Name |Sum

|Oil |1
|Fat
|2
|===

////
gone
////

NOTE: See <<care,Care>>.
"""
ORG = """#+TITLE: Manual
#+AUTHOR: Ada
* Care :pump:
:PROPERTIES:
:ID: 1
:END:
See [[https://x.org][the site]].
# a comment
#+BEGIN_SRC python
# kept
x = 1
#+END_SRC
| Name | Sum |
|------+-----|
| Oil  | 1   |
"""
LATEX = r"""\documentclass{article}
\usepackage{x}
\title{On \emph{pumps}}
\begin{document}
\maketitle
\begin{abstract}Short.\end{abstract}
\section{Care}\label{care} % a comment
Oil it 100\% of the time, \textbf{always} --- see \cite{a}. Gr\"o{\ss}e $a_1 % b$.
\begin{itemize}
\item One
\item Two
\end{itemize}
\begin{tabular}{l|r}\hline
Name & Sum \\ Oil & 1 \\
\end{tabular}
\begin{verbatim}
\section{kept}
\end{verbatim}
\end{document}
"""
FB2 = """<?xml version="1.0"?><FictionBook><description><title-info><genre>prose</genre>
<book-title>Pumps</book-title></title-info></description><body><section><title><p>One</p></title>
<p>It was <emphasis>dark</emphasis>.</p></section></body><binary id="x">AAAA</binary>
</FictionBook>"""


@pytest.mark.parametrize(
    ("name", "content", "title", "parts", "gone"),
    [
        (
            "a.rst",
            RST,
            "Manual",
            [
                "# Manual\n",
                "## Care of pumps\n",
                "Use `oil` with `--fast`, see the site:\n\n```\noil --fast\n```",
                "Note: Every week.\n\nAnd after rain.",
                "```python\nx = 1\n```",
                "### Deeper\nEnd.",
            ],
            ["gone", "comment", "linenos", "----", "::", "_care"],
        ),
        (
            "a.adoc",
            ASCIIDOC,
            "Manual",
            [
                "# Manual\n",
                "## Care\n",
                "Title of it\n```python\nx = 1  # = no heading\n```",
                "- One\n  - Inner the link\n1. First",
                "| Name | Sum |\n| --- | --- |\n| Oil | 1 |\n| Fat | 2 |",
                "NOTE: See Care.",
            ],
            ["gone", "comment", "toc", "|==="],
        ),
        (
            "a.org",
            ORG,
            "Manual",
            [
                "# Manual\n",
                "## Care\n",
                "See the site.",
                "```python\n# kept\nx = 1\n```",
                "| Name | Sum |\n|------|-----|\n| Oil  | 1   |",
            ],
            ["PROPERTIES", "a comment", "BEGIN_SRC", ":pump:"],
        ),
        (
            "a.tex",
            LATEX,
            "On pumps",
            [
                "# On pumps\n",
                "## Abstract\n\nShort.",
                "## Care\n",
                "Oil it 100% of the time, always — see .",
                "Größe",
                "- One\n- Two",
                "| Name | Sum |\n| --- | --- |\n| Oil | 1 |",
                "```\n\\section{kept}\n```",
            ],
            ["comment", "label", "documentclass", "hline", "\\begin"],
        ),
        ("a.fb2", FB2, "Pumps", ["## One\n\nIt was dark.", "# Pumps"], ["AAAA"]),
    ],
)
def test_markup_becomes_markdown(
    name: str, content: str, title: str, parts: list[str], gone: list[str], tmp_path: Path
) -> None:
    text, found, warned = told(tmp_path / name, content.encode())
    assert (found, warned) == (title, [])
    for part in parts:
        assert part in text
    for part in gone:
        assert part not in text


@pytest.mark.parametrize("suffix", ["rst", "adoc", "org", "tex"])
@pytest.mark.parametrize(
    "piece", ["a::\n", "----\n", "{", "|===\n", "\\begin{x}", "`", ".. a::\n "]
)
def test_markup_without_end_takes_its_length_in_time(
    suffix: str, piece: str, tmp_path: Path
) -> None:
    content = piece * (100_000 // len(piece)) + "\nEnd."
    told(tmp_path / f"a.{suffix}", content.encode(), max_seconds=10)


def test_word_tables_are_filled_and_comments_are_marked(tmp_path: Path) -> None:
    def cell(text: str, more: str = "") -> str:
        return f"<w:tc><w:tcPr>{more}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>"

    rows = [
        cell("Half", '<w:gridSpan w:val="2"/>') + cell("Sum"),
        cell("Q1", '<w:vMerge w:val="restart"/>') + cell("Jan") + cell("1"),
        cell("", "<w:vMerge/>") + cell("Feb") + cell("2"),
    ]
    table = "".join(f"<w:tr>{row}</w:tr>" for row in rows)
    body = f'<w:document xmlns:w="{WORD}"><w:body><w:tbl>{table}</w:tbl></w:body></w:document>'
    comments = (
        f'<w:comments xmlns:w="{WORD}"><w:comment w:author="Ada" w:id="0">'
        "<w:p><w:r><w:t>Really?</w:t></w:r></w:p></w:comment></w:comments>"
    )
    data = zipped([("word/document.xml", body), ("word/comments.xml", comments)])
    assert told(tmp_path / "a.docx", data)[0] == (
        "| Half | Half | Sum |\n| --- | --- | --- |\n| Q1 | Jan | 1 |\n| Q1 | Feb | 2 |\n\n"
        "[Comment by Ada: Really?]"
    )
    assert docx()


CODE = {
    "a.py": (
        "import os\n\n\nclass Pump:\n    '''A pump.'''\n\n    def oil(self):\n        return 1\n\n"
        "    @property\n    def größe(self):\n        return 2\n\n\ndef last():\n    return 3\n"
    ),
    "a.ts": "class Pump {\n  oil(): number {\n    return 1;\n  }\n}\nfunction last() {}\n",
    "a.go": "package a\n\nfunc Oil() int {\n\treturn 1\n}\n\nfunc last() {}\n",
    "a.rs": "struct Pump;\nimpl Pump {\n    fn oil(&self) -> i32 { 1 }\n}\nfn last() {}\n",
    "a.c": "#include <a.h>\nint oil(int x) {\n  return 1;\n}\nint last(void) { return 2; }\n",
    "a.java": "class Pump {\n  int oil() {\n    return 1;\n  }\n}\n",
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_cut_between_definitions(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter")
    (tmp_path / name).write_text(CODE[name])
    document = read(SourceFile(name, tmp_path), DocumentsSection())
    assert document.text == CODE[name]
    nodes = NodeParser(ChunkingSection(size=60, overlap=0, unit="characters"), list, 200).split(
        document
    )
    found = next(node for node in nodes if "return 1" in node.text or "{ 1 }" in node.text)
    assert "line" in found.metadata["headings"]
    around = "Pump" if "Pump" in CODE[name] and name != "a.py" else "oil"
    assert around in found.metadata["headings"].replace("O", "o")
    if name == "a.py":
        by_name = {node.metadata["headings"].rpartition(" › ")[0]: node.text for node in nodes}
        assert by_name["Pump › größe"].startswith("@property")
        assert by_name["last"] == "def last():\n    return 3"
        lines = {node.metadata["headings"].rpartition(" › ")[2] for node in nodes}
        assert "lines 15-16" in lines


def test_code_without_the_extra_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_app.documents.file_types import code

    monkeypatch.setattr(code, "_GRAMMARS", {".py": ("no_such_module", "language")})
    code._parser.cache_clear()
    assert told(tmp_path / "a.py", CODE["a.py"].encode())[0] == CODE["a.py"]
    code._parser.cache_clear()
