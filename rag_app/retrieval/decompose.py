"""A question that asks for several things → its parts, each a question of its own.

By rule, and only where the words say so: a second question mark, a question word behind "and", a
comparison. A question that is taken apart wrongly is searched for as a whole all the same.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest

from llama_index.core.schema import NodeWithScore

MOST_PARTS = 4

_ASKS = (
    r"(?:who|whom|whose|what|when|where|which|why|how"
    r"|wer|wem|wen|wessen|was|wann|wo|welche[rsnm]?|warum|wie"
    r"|qui|quand|où|pourquoi|comment|combien|quelle?s?"
    r"|quién|cuándo|dónde|cuánt[oa]s?|cuál"
    r"|\u043a\u0442\u043e|\u043a\u043e\u0433\u0434\u0430|\u0433\u0434\u0435|\u0441\u043a\u043e\u043b\u044c\u043a\u043e|\u043f\u043e\u0447\u0435\u043c\u0443)\b"
)
_NEXT = re.compile(
    rf"(?<=[?\uff1f])\s*(?=\S)|,?\s+(?:and|und|et|y|\u0438)\s+(?=(?:(?:in|at|by|for|to|from|with)\s+)?{_ASKS})",
    re.IGNORECASE,
)
"""Where another question begins."""
_FIRST = re.compile(rf"\W*(?:\w+\W+){{0,2}}?{_ASKS}", re.IGNORECASE)
_COMPARES = (
    re.compile(
        r"(?:differences?|unterschiede?|différences?|diferencias?)\s+(?:\w+\s+)?"
        r"(?:between|zwischen|entre)\s+(?P<one>.+?)\s+(?:and|und|et|y)\s+(?P<other>.+)",
        re.IGNORECASE,
    ),
    re.compile(r"\bcompare\s+(?P<one>.+?)\s+(?:and|with|to)\s+(?P<other>.+)", re.IGNORECASE),
    re.compile(r"(?P<one>\S.*?)\s+(?:vs\.?|versus)\s+(?P<other>.+)", re.IGNORECASE),
)
_SHORTEST = 2
"""Words of a part; fewer ask for nothing."""
_LONGEST_COMPARED = 6
"""Words of what is compared; more are a clause, in which "and" joins something else."""
_END = " \t\n?.!\uff1f"


def split_question(question: str) -> list[str]:
    """Return the parts of a question, or the question alone.

    "Who built the tower, and when was the bridge opened?" has two parts; what is compared ("the
    difference between A and B") is looked for one by one.
    """
    for compares in _COMPARES:
        if found := compares.search(question):
            both = [found[name].strip(_END) for name in ("one", "other")]
            if all(0 < len(each.split()) <= _LONGEST_COMPARED for each in both):
                return both
    parts = [part.strip() for part in _NEXT.split(question) if part and part.strip(_END)]
    are_questions = all(_FIRST.match(part) and len(part.split()) > _SHORTEST for part in parts)
    if 1 < len(parts) <= MOST_PARTS and are_questions:
        return [f"{part.strip(_END)}?" for part in parts]
    return [question]


def cover(found: Sequence[Sequence[NodeWithScore]], number: int) -> list[NodeWithScore]:
    """Join what the parts of a question find: the best of each part, then the second of each.

    So the last to be dropped, where room is short, is the best of any part. A node keeps the best
    score that it has for any of them.

    Parameters
    ----------
    found
        Of each part, and of the whole question last; best first.
    number
        How many are kept.
    """
    best: dict[str, NodeWithScore] = {}
    for node in (each for of_part in found for each in of_part):
        known = best.get(node.node.node_id)
        if known is None or (node.score or 0.0) > (known.score or 0.0):
            best[node.node.node_id] = node
    order = [node.node.node_id for rank in zip_longest(*found) for node in rank if node]
    return [best[id_] for id_ in dict.fromkeys(order)][:number]
