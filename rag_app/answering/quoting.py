"""Chosen quotations → the text of the answer.

Those of one context stand together in its order, with what was left out between them as "…"; the
context of the best one comes first. What is very long is cut to the part that the question asks
about.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from rag_app.answering.code_blocks import FENCE
from rag_app.answering.evidence import LONGEST, Candidate

LONGEST_LEAD = 100
"""Characters of what leads to an item of a list, for it to be quoted before each item."""
_LINES = 16
"""Of a code block that are quoted."""
_WORD = re.compile(r"\w+")
_CUT = "\u2026"

_INNER = str.maketrans("\u201c\u201d", "\u2018\u2019")
"""Quotation marks within a quotation: one of the text's own would end it, and what the document
writes behind that, "[9]", would be read as a citation."""

Weigh = Callable[[str], float]
"""A word of a text → how much it says to the question."""


def shown(candidate: Candidate, weigh: Weigh) -> str:
    """Return a quotation as the answer shows it, without its marks."""
    quotable = candidate.quotable
    if quotable.block:
        block = _part_of_block(quotable.block, weigh)
        return f"{quotable.lead}\n{block}" if quotable.lead else block
    has_lead = quotable.lead and len(quotable.lead) <= LONGEST_LEAD
    text = f"{quotable.lead} {quotable.text}" if has_lead else quotable.text
    return _part_of_text(text, weigh)


def write(chosen: Sequence[Candidate], weigh: Weigh) -> str:
    """Return the answer: a line for each context, code on lines of its own.

    Parameters
    ----------
    chosen
        Best first.
    """
    lines: list[str] = []
    for number in dict.fromkeys(each.source.number for each in chosen):
        own = [each for each in chosen if each.source.number == number]
        own.sort(key=lambda each: each.place)
        run: list[Candidate] = []
        for each in own:
            if each.quotable.block:
                lines += _quoted(run, weigh)
                lines.append(_quoted_block(each, weigh))
                run = []
            else:
                run.append(each)
        lines += _quoted(run, weigh)
    return "\n".join(lines)


def _quoted(run: Sequence[Candidate], weigh: Weigh) -> Iterable[str]:
    if not run:
        return
    text, before, lead = "", run[0].place - 1, ""
    for each in run:
        # Items of one list have what leads to them in common.
        own = each.quotable
        part = (
            _part_of_text(own.text, weigh) if own.lead and own.lead == lead else shown(each, weigh)
        )
        lead = own.lead
        between = " " if each.place == before + 1 else f" {_CUT} "
        text = f"{text}{between}{part}" if text else part
        before = each.place
    yield f"{_in_marks(text)} [{run[0].source.number}]"


def _quoted_block(candidate: Candidate, weigh: Weigh) -> str:
    lead = candidate.quotable.lead
    block = _part_of_block(candidate.quotable.block, weigh)
    before = f"{_in_marks(lead)}\n" if lead else ""
    # A fence ends alone on its line.
    after = "\n" if FENCE.fullmatch(block.splitlines()[-1]) else " "
    if after == " ":
        block = _in_marks(block)
    return f"{before}{block}{after}[{candidate.source.number}]"


def _in_marks(text: str) -> str:
    return f"\u201c{text.translate(_INNER)}\u201d"


def _part_of_text(text: str, weigh: Weigh) -> str:
    """Cut a text to the part of `LONGEST` characters that says most to the question."""
    if len(text) <= LONGEST:
        return text
    words = [(match.start(), weigh(match[0])) for match in _WORD.finditer(text)]
    starts = [0, *(at for at, weight in words if weight)]
    begin = max(
        starts, key=lambda start: sum(w for at, w in words if start <= at < start + LONGEST)
    )
    # What comes before a word that was asked for belongs to it: up to the clause's beginning.
    begin = max(text.rfind(mark, max(0, begin - LONGEST // 3), begin) for mark in ",;:.") + 1
    end = begin + LONGEST
    if end < len(text) and " " in text[begin:end]:
        end = text.rfind(" ", begin, end)
    part = text[begin:end].strip()
    return f"{_CUT + ' ' if begin else ''}{part}{' ' + _CUT if end < len(text) else ''}"


def _part_of_block(block: str, weigh: Weigh) -> str:
    """Cut a block to the lines round the one that says most to the question."""
    lines = block.splitlines()
    if len(lines) <= _LINES:
        return block
    is_fenced = FENCE.fullmatch(lines[0]) is not None
    first, last = (lines[:1], lines[-1:]) if is_fenced else ([], [])
    inner = lines[1:-1] if is_fenced else lines
    weights = [sum(weigh(word) for word in _WORD.findall(line)) for line in inner]
    best = max(range(len(inner)), key=weights.__getitem__)
    begin = max(0, min(best - _LINES // 4, len(inner) - _LINES))
    kept = inner[begin : begin + _LINES]
    before = [_CUT] if begin else []
    after = [_CUT] if begin + _LINES < len(inner) else []
    return "\n".join([*first, *before, *kept, *after, *last])
