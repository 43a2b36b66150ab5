"""How answers say that the documents have none."""

import re

ABSTAINS = re.compile(
    r"\bnothing relevant to this question\b"
    r"|\b(?:do(?:es)? not|don't|doesn't|did not|cannot|can't|could not|unable to|not possible to)"
    r" (?:\w+ ){0,2}(?:answer|contain|mention|provide|say|state|specify|include|know|find|tell"
    r"|determine|give)"
    r"|\bno (?:\w+ ){0,2}(?:information|answer|mention|context)\b"
    r"|\b(?:not|never|nor) (?:\w+ )?(?:answered|mentioned|stated|provided|specified|relevant|given)"
    r"|\bunanswerable\b",
    re.IGNORECASE,
)
"""In English, as the built-in prompt asks for it."""


def abstains(text: str) -> bool:
    """Tell whether an answer, or a sentence of one, says that there is none."""
    return ABSTAINS.search(text) is not None
