"""Reader of LaTeX, as Markdown: structure and text; formulas stay as they are."""

import re
from pathlib import Path

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget
from rag_app.documents.file_types.tables import Table

_LEVELS = {
    **{"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4},
    **{"paragraph": 5, "subparagraph": 6},
}
_HEADING = re.compile(
    rf"\\({'|'.join(_LEVELS)})\*?\s*(?:\[[^\]]{{0,500}}\])?\s*\{{((?:[^{{}}]|\{{[^{{}}]{{0,500}}\}}){{0,1000}})\}}"
)
_TITLE = re.compile(r"\\title\s*(?:\[[^\]]{0,500}\])?\s*\{((?:[^{}]|\{[^{}]{0,500}\}){0,1000})\}")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*\n?")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([\w*]{1,60})\}(?:\[[^\]]{0,300}\])?")
_VERBATIM = {"verbatim", "lstlisting", "minted", "Verbatim", "alltt"}
_DROPPED = re.compile(
    r"\\(?:label|cite[a-z]*|ref|eqref|pageref|index|includegraphics|vspace|hspace|bibliography"
    r"|bibliographystyle|usepackage|documentclass|input|include|pagestyle|thispagestyle)\*?"
    r"(?:\[[^\]]{0,300}\])?\{[^{}]{0,500}\}"
)
_MARKED = re.compile(r"\\(?:emph|text\w{2}|textbf|underline|mbox|url|texttt|footnote|caption)\s*\{")
_LINK = re.compile(r"\\href\{[^{}]{0,1000}\}\s*\{([^{}]{0,1000})\}")
_COMMAND = re.compile(
    r"\\(?:maketitle|tableofcontents|centering|noindent|newpage|clearpage|hline|toprule|midrule"
    r"|bottomrule|small|large|Large|footnotesize|par|quad|qquad|appendix|bf|it|em|tt)\b\*?"
)
_SYMBOLS = {
    **{r"\&": "&", r"\%": "%", r"\$": "$", r"\#": "#", r"\_": "_", "~": " ", "---": "\u2014"},
    **{"--": "\u2013", "``": "\u201c", "''": "\u201d", r"\ldots": "…", r"\LaTeX": "LaTeX"},
    **{r"\TeX": "TeX", r"\ss": "ß", r"\{": "{", r"\}": "}", r"\textbackslash": "\\"},
}
_ACCENTS = {
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    '"': "\u0308",
    "~": "\u0303",
    "c": "\u0327",
}
_ACCENT = re.compile(r"\\(?:(['`^\"~])\s*\{?\\?([A-Za-z])\}?|(c)\s*\{([A-Za-z])\})")
_ITEM = re.compile(r"\n?[ \t]*\\item\b\s*(?:\[([^\]]{0,300})\])?\s*")
_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


class LatexReader(FileReader):
    """Headings, lists, tables and code as Markdown; commands that say nothing go."""

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the text of the document, and its title."""
        source = text_of(file)
        found = _TITLE.search(source)
        title = " ".join(_plain(found[1]).split()) if found else None
        begins = source.find(r"\begin{document}")
        body = source[begins + 16 :] if begins >= 0 else source
        body = body.partition(r"\end{document}")[0]
        if title:
            budget.write(f"# {title}\n\n")
        _write(body, budget)
        return _BLANK.sub("\n\n", budget.text).strip(), title


def _write(body: str, budget: Budget) -> None:
    """Write environment by environment: code whole, tables as such, the rest as text."""
    start = 0
    depth = 0
    while found := _ENVIRONMENT.search(body, start):
        budget.tick()
        budget.write(_text(body[start : found.start()], depth))
        start = found.end()
        kind, name = found[1], found[2]
        whole = name in _VERBATIM or name.rstrip("*x").startswith(("tabular", "longtable"))
        if kind == "begin" and whole:
            end = body.find(rf"\end{{{name}}}", start)
            inside = body[start : end if end >= 0 else len(body)]
            start = len(body) if end < 0 else end
            if name in _VERBATIM:
                code = re.sub(r"\A\s*\{\w+\}", "", inside).strip("\n")
                budget.write(f"\n```\n{code}\n```\n\n")
            else:
                budget.write(f"\n{_table(inside, budget)}\n")
        elif name in {"itemize", "enumerate", "description"}:
            depth = max(0, depth + (1 if kind == "begin" else -1))
        elif name == "abstract" and kind == "begin":
            budget.write("\n## Abstract\n\n")
    budget.write(_text(body[start:], depth))


def _text(source: str, depth: int) -> str:
    text = _COMMENT.sub("", source)
    text = _HEADING.sub(
        lambda found: f"\n\n{'#' * _LEVELS[found[1]]} {' '.join(found[2].split())}\n\n", text
    )
    item = f"\n{'  ' * max(0, depth - 1)}- "
    text = _ITEM.sub(lambda found: f"{item}{found[1]} " if found[1] else item, text)
    return _plain(text)


def _table(inside: str, budget: Budget) -> str:
    table = Table(budget)
    # Its columns' description goes.
    inside = re.sub(r"\A\s*(?:\{[^{}]{0,300}\}\s*){1,2}", "", _COMMENT.sub("", inside))
    for row in re.split(r"\\\\(?:\[[^\]]{0,50}\])?|\\tabularnewline", inside):
        for cell in re.split(r"(?<!\\)&", row):
            budget.tick()
            table.begin_cell()
            table.take(_plain(re.sub(r"\\cline\{[^}]{0,50}\}", "", cell)))
            table.end_cell()
        table.end_row()
    return table.text


def _plain(text: str) -> str:
    text = _LINK.sub(r"\1", _DROPPED.sub("", text))
    text = _MARKED.sub("{", text)
    text = _ACCENT.sub(lambda a: (a[2] or a[4]) + _ACCENTS[a[1] or a[3]], text)
    text = _COMMAND.sub("", text)
    pieces = re.split(r"(\$[^$]{1,2000}\$|\\\[.{1,5000}?\\\])", text, flags=re.DOTALL)
    # Formulas are kept as they are written.
    return "".join(piece if at % 2 else _symbols(piece) for at, piece in enumerate(pieces))


def _symbols(text: str) -> str:
    import unicodedata

    for command, symbol in _SYMBOLS.items():
        text = text.replace(command, symbol)
    return unicodedata.normalize("NFC", re.sub(r"(?<!\\)[{}]", "", text))
