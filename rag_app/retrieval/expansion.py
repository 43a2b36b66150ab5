"""Join hits with their neighbours in the document: one passage instead of several pieces."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from llama_index.core.schema import NodeRelationship, NodeWithScore, TextNode
from pydantic import Field

from rag_app.documents.node_parser import MAX_BOXES
from rag_app.milvus.rows import Span

PARENT = "parent"
"""Metadata of a piece: the positions of the first and the last piece of what it was cut from."""

FetchSpans = Callable[[Sequence[Span]], list[TextNode]]


class Passage(TextNode):
    """Hits of one document with what stands between and around them.

    Id and metadata are those of its best hit.
    """

    hits: list[NodeWithScore] = Field(description="What was found, best first.")

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "Passage"


def expand(
    nodes: Sequence[NodeWithScore], neighbours: int, fetch: FetchSpans
) -> list[NodeWithScore]:
    """Turn each hit into a passage with `neighbours` nodes on either side.

    Hits whose neighbourhoods touch become one passage, in document order, that stands where the
    best of them stood. A node that does not know its position (not from `NodeParser`) stays as it
    is.

    Parameters
    ----------
    nodes
        Best first.
    fetch
        Returns the nodes of many spans, in any order.
    """
    placed = [node for node in nodes if _has_position(node)]
    groups = _group(placed, neighbours)
    around: defaultdict[str, dict[int, TextNode]] = defaultdict(dict)
    for node in fetch([_span(group, neighbours) for group in groups]):
        around[str(node.ref_doc_id)][int(node.metadata["position"])] = node
    passages = {}
    for group in groups:
        document, first, last = _span(group, neighbours)
        own = {
            int(hit.metadata["position"]): hit.node
            for hit in group
            if isinstance(hit.node, TextNode)
        }
        # The hits as well: one that was deleted meanwhile is not fetched, and its passage stays.
        found = {**around[document], **own}
        pieces = [found[at] for at in range(first, last + 1) if at in found]
        passages[group[0].node_id] = _join(group, pieces)
    inside = {hit.node_id for group in groups for hit in group[1:]}
    return [passages.get(node.node_id, node) for node in nodes if node.node_id not in inside]


def join_parents(
    nodes: Sequence[NodeWithScore], most: int, fetch: FetchSpans
) -> list[NodeWithScore]:
    """Turn hits that are pieces of one paragraph, list or table into the whole of it.

    Parameters
    ----------
    nodes
        Best first.
    most
        How many are returned; the whole stands where the best of its pieces stood.
    fetch
        As in `expand`.
    """
    groups: dict[tuple[str, ...], list[NodeWithScore]] = {}
    for node in nodes:
        parent = node.metadata.get(PARENT) if _has_position(node) else None
        key = (str(node.node.ref_doc_id), *map(str, parent)) if parent else (node.node_id,)
        groups.setdefault(key, []).append(node)
    kept = list(groups.values())[:most]
    parts = [group for group in kept if PARENT in group[0].metadata and _has_position(group[0])]
    spans = [(str(group[0].node.ref_doc_id), *group[0].metadata[PARENT]) for group in parts]
    found: defaultdict[str, dict[int, TextNode]] = defaultdict(dict)
    for piece in fetch(spans) if spans else ():
        found[str(piece.ref_doc_id)][int(piece.metadata["position"])] = piece
    passages = {}
    for group, (document, first, last) in zip(parts, spans, strict=True):
        pieces = [found[document][at] for at in range(first, last + 1) if at in found[document]]
        # What was deleted meanwhile is not fetched, and stays as it was found.
        if len(pieces) > last - first:
            passages[group[0].node_id] = _join(group, pieces)
    return [passages.get(group[0].node_id, group[0]) for group in kept]


def shrink(nodes: Sequence[NodeWithScore], kept: int) -> list[NodeWithScore]:
    """Take passages back to the hits that they were made of, all but the first `kept` nodes."""
    shrunk = list(nodes[:kept])
    for node in nodes[kept:]:
        shrunk += node.node.hits if isinstance(node.node, Passage) else [node]
    return shrunk


def _group(nodes: Sequence[NodeWithScore], neighbours: int) -> list[list[NodeWithScore]]:
    """Put hits together whose neighbourhoods touch; each group best first."""
    by_document: defaultdict[str, list[NodeWithScore]] = defaultdict(list)
    for node in nodes:
        by_document[str(node.node.ref_doc_id)].append(node)
    rank = {node.node_id: number for number, node in enumerate(nodes)}
    groups = []
    for of_document in by_document.values():
        ordered = sorted(of_document, key=lambda node: int(node.metadata["position"]))
        group = [ordered[0]]
        for one, other in pairwise(ordered):
            gap = int(other.metadata["position"]) - int(one.metadata["position"])
            # So far apart, there is a node between the two neighbourhoods that is in neither.
            if gap > 2 * neighbours + 1:
                groups.append(group)
                group = []
            group.append(other)
        groups.append(group)
    return [sorted(group, key=lambda node: rank[node.node_id]) for group in groups]


def _span(group: Sequence[NodeWithScore], neighbours: int) -> Span:
    positions = [int(hit.metadata["position"]) for hit in group]
    document = str(group[0].node.ref_doc_id)
    return document, max(0, min(positions) - neighbours), max(positions) + neighbours


def _join(group: list[NodeWithScore], pieces: Sequence[TextNode]) -> NodeWithScore:
    best = group[0]
    text = pieces[0].text
    for one, other in pairwise(pieces):
        text += _continuation(one, other)
    relations = dict(best.node.relationships)
    # Before and after stands what does so for the whole passage, not for its best hit.
    for relation, end in (
        (NodeRelationship.PREVIOUS, pieces[0]),
        (NodeRelationship.NEXT, pieces[-1]),
    ):
        relations.pop(relation, None)
        if relation in end.relationships:
            relations[relation] = end.relationships[relation]
    metadata = dict(best.node.metadata)
    if "boxes" in metadata:
        boxes = [box for piece in pieces for box in piece.metadata.get("boxes", ())]
        metadata["boxes"] = boxes[:MAX_BOXES]
    fields = {**best.node.model_dump(), "text": text, "hits": group, "relationships": relations}
    fields["metadata"] = metadata
    fields["start_char_idx"] = pieces[0].start_char_idx
    fields["end_char_idx"] = pieces[-1].end_char_idx
    return NodeWithScore(node=Passage(**fields), score=best.score)


def _continuation(one: TextNode, other: TextNode) -> str:
    """Return what `other` adds to `one`: not the end of `one`, or of a table's header, again."""
    text = other.text
    longest = min(len(one.text), len(text))
    if one.end_char_idx is not None and other.start_char_idx is not None:
        if other.end_char_idx is not None:
            text = text[max(len(text) - (other.end_char_idx - other.start_char_idx), 0) :]
        # Two nodes that share no text may still end and begin with the same letter.
        longest = min(longest, one.end_char_idx - other.start_char_idx)
    for length in range(longest, 0, -1):
        if one.text.endswith(text[:length]):
            return text[length:]
    return f"\n\n{text}" if longest < -1 else f"\n{text}"


def _has_position(node: NodeWithScore) -> bool:
    return isinstance(node.node, TextNode) and isinstance(node.metadata.get("position"), int)
