"""Citations in answers: ``[1]`` and ``[1, 2]``, the numbers of contexts."""

import re

CITATION = re.compile(r"\[(\d+(?:\s*[,;]\s*\d+)*)\]")
_QUOTED = re.compile(
    r"“[^”]*”(?=\s*(?:\[\d|`{3}|~{3}))|^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL
)
"""A quotation before its citation, and code: the brackets in them are the document's own."""


def cited_places(answer: str) -> list[tuple[int, int, list[int]]]:
    """Return where an answer cites: start and end of the brackets, and the numbers in them."""
    quoted = [match.span() for match in _QUOTED.finditer(answer)]
    return [
        (*match.span(), [int(number) for number in re.findall(r"\d+", match[1])])
        for match in CITATION.finditer(answer)
        if not any(start <= match.start() < end for start, end in quoted)
    ]


def cited_numbers(answer: str) -> list[int]:
    """Return the numbers that an answer cites, each once, in the order of the answer."""
    places = cited_places(answer)
    return list(dict.fromkeys(number for *_, numbers in places for number in numbers))
