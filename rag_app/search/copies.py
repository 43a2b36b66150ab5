"""Choose the best nodes, one of each text: near-copies are named, and take no place.

The same page in two versions, or a notice at the foot of every file, would else fill the context
with one thing said five times.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from rag_app.search.modes import Hit

COPIES = "copies"
"""The key of a node's metadata that lists the paths of the documents with a near-copy of it."""

SHINGLE = 5
"""Characters: of words with their ends in most languages, and of a phrase in Chinese."""

RESEMBLES = 0.8
"""Share of the shingles that two texts have in common from which on they are one (Broder, "On the
resemblance and containment of documents", 1997)."""

_NO_LETTER = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"\d+")

Fetch = Callable[[Sequence[str]], Mapping[str, BaseNode]]


@dataclass(frozen=True)
class _Likeness:
    """What a text is compared by. Texts that differ in a number say different things."""

    numbers: tuple[str, ...]
    shingles: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "_Likeness":
        letters = _NO_LETTER.sub(" ", text.casefold()).strip()
        last = max(len(letters) - SHINGLE, 0)
        return cls(
            tuple(_NUMBER.findall(letters)),
            frozenset(letters[at : at + SHINGLE] for at in range(last + 1)),
        )

    def resembles(self, other: "_Likeness") -> bool:
        if self.numbers != other.numbers:
            return False
        common = len(self.shingles & other.shingles)
        return common >= RESEMBLES * (len(self.shingles) + len(other.shingles) - common)


def choose(
    ranked: Sequence[Sequence[Hit]], number: int, fetch: Fetch, *, each_once: bool
) -> list[list[NodeWithScore]]:
    """Turn each question's hits into the best `number` nodes.

    Parameters
    ----------
    ranked
        A question's hits, best first; more than `number` where copies may be among them.
    fetch
        Returns nodes by id.
    each_once
        Leave near-copies out, and name them in the metadata of the one that stays (`COPIES`).
    """
    choices = [_Choice(hits, number, each_once) for hits in ranked]
    while wanted := list(dict.fromkeys(id_ for choice in choices for id_ in choice.wanted())):
        nodes = fetch(wanted)
        for choice in choices:
            choice.take(nodes)
    return [choice.chosen for choice in choices]


class _Choice:
    """One question's: asks for as many nodes as are missing, until there are enough."""

    def __init__(self, hits: Sequence[Hit], number: int, each_once: bool) -> None:
        self._hits = hits
        self._number = number
        self._each_once = each_once
        self._seen = 0
        self._likenesses: list[_Likeness] = []
        self.chosen: list[NodeWithScore] = []

    def _next(self) -> Sequence[Hit]:
        missing = self._number - len(self.chosen)
        return self._hits[self._seen : self._seen + missing]

    def wanted(self) -> list[str]:
        return [hit.id for hit in self._next()]

    def take(self, nodes: Mapping[str, BaseNode]) -> None:
        following = self._next()
        self._seen += len(following)
        for hit in following:
            if hit.id in nodes:  # else it was deleted after the search
                # Another question's list may have the same node, with other copies.
                self._add(NodeWithScore(node=nodes[hit.id].model_copy(), score=hit.score))

    def _add(self, found: NodeWithScore) -> None:
        if self._each_once:
            likeness = _Likeness.of(found.node.get_content(MetadataMode.NONE))
            for one, known in zip(self.chosen, self._likenesses, strict=True):
                if known.resembles(likeness):
                    _name(one.node, found.node)
                    return
            self._likenesses.append(likeness)
        self.chosen.append(found)


def _name(node: BaseNode, copy: BaseNode) -> None:
    """Write where a node's copy is into its metadata, which neither model is shown."""
    path = str(copy.metadata.get("path", copy.ref_doc_id or copy.node_id))
    named = [*node.metadata.get(COPIES, []), path]
    # Anew, not changed: the node is a shallow copy, and shares these with others.
    node.metadata = {**node.metadata, COPIES: list(dict.fromkeys(named))}
    for keys in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys"):
        setattr(node, keys, list(dict.fromkeys([*getattr(node, keys), COPIES])))
