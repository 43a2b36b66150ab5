"""Citations in answers: ``[1]`` and ``[1, 2]``, the numbers of contexts."""

import re

CITATION = re.compile(r"\[(\d+(?:\s*[,;]\s*\d+)*)\]")
_QUOTED = re.compile(r"“[^”]*”(?=\s*\[\d)|^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
"""A quotation before its citation, and code: the brackets in them are the document's own."""


def cited_numbers(answer: str) -> list[int]:
    """Return the numbers that an answer cites, each once, in the order of the answer."""
    found = CITATION.findall(_QUOTED.sub("", answer))
    return list(dict.fromkeys(int(number) for each in found for number in re.findall(r"\d+", each)))
