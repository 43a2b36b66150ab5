"""A document's text from its passages: whole, or the part round one of them that fits."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_index.core.schema import BaseNode, MetadataMode

from rag_app.answering.fencing import KNOWN_FAMILIES, name_line

MOST_CHARACTERS = 30_000
"""Of a text that is fetched: some 7,000 tokens, which leaves room for others in a window."""

_BEFORE = 0.2
"""How much of it may stand before the passage that was asked for."""


@dataclass(frozen=True)
class Window:
    """Some passages of a document that stand together.

    Attributes
    ----------
    first, last
        Positions among the document's passages, from 0; both are in it.
    """

    nodes: Sequence[BaseNode]
    first: int
    last: int

    @property
    def text(self) -> str:
        """Their text, without what one repeats of the one before it."""
        text = ""
        for before, node in zip([None, *self.nodes], self.nodes, strict=False):
            added = text_of(node)
            repeated = _repeated(before, node) if before is not None else 0
            text += added[repeated:] if repeated else f"\n\n{added}" if text else added
        return text


def window(nodes: Sequence[BaseNode], node: str, most: int = MOST_CHARACTERS) -> Window:
    """Return the passages round a node, as many as fit; without a node from the beginning.

    The asked one is always among them. Most of the room is for what follows it.
    """
    ids = [each.node_id for each in nodes]
    middle = ids.index(node) if node in ids else 0
    lengths = [len(text_of(each)) for each in nodes]
    first = last = middle
    left = most - lengths[middle]
    before = left if sum(lengths) <= most else int(most * _BEFORE)
    while first > 0 and lengths[first - 1] <= min(before, left):
        first -= 1
        before -= lengths[first]
        left -= lengths[first]
    while last + 1 < len(nodes) and lengths[last + 1] <= left:
        last += 1
        left -= lengths[last]
    return Window(nodes[first : last + 1], first, last)


def text_of(node: BaseNode) -> str:
    """Return a passage's text, without what a chat template takes for more than text."""
    return KNOWN_FAMILIES(node.get_content(MetadataMode.NONE))


def line_of(name: str) -> str:
    """Make a name harmless: one line, and nothing that a chat template takes for more."""
    return KNOWN_FAMILIES(name_line(name))


def title_of(node: BaseNode) -> str:
    """Return what to call a passage: document, page and headings, in one line."""
    about = node.metadata
    title = str(about.get("title") or about.get("path") or node.ref_doc_id or node.node_id)
    page = f", page {about['page']}" if about.get("page") else ""
    headings = f": {about['headings']}" if about.get("headings") else ""
    return line_of(f"{title}{page}{headings}")


def _repeated(before: BaseNode, node: BaseNode) -> int:
    """Return how many characters a passage repeats of the one before it."""
    start = getattr(node, "start_char_idx", None)
    end = getattr(before, "end_char_idx", None)
    if start is None or end is None or end <= start:
        return 0
    # The two may be cut from texts that were changed on the way: only what is equal is left out.
    return end - start if text_of(before).endswith(text_of(node)[: end - start]) else 0
