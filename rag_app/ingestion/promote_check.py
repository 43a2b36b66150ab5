"""Whether a copied collection is the original: rows, documents, and what searches find in both."""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llama_index.core.schema import BaseNode

from rag_app.errors import VectorStoreError
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.copying import contents
from rag_app.schema import Record
from rag_app.search.modes import Hit

SAMPLES = 100
NEAREST = 10
"""Rows of a search that are compared."""

_LOOKED_AT = 256
"""Rows that a search is asked for, so that an approximate index looks far enough for the first
ones: ef and the like are never less."""

_TIE = 1e-4
"""Scores this near to each other are equal: two indexes add the same numbers in another order."""

_ENOUGH = 0.99
"""Of the rows that a search finds, as an average over the samples. Two graphs over the same rows
are built in another order, and may each pass over one."""


@dataclass(frozen=True)
class Comparison(Record):
    """How alike two collections are, once they hold the same documents and rows.

    Attributes
    ----------
    samples
        Rows whose vector, text and metadata were compared, and whose neighbours were looked for.
    same_searches
        Samples for which both find the same rows, but for ties.
    overlap
        Share of the rows that are found in both, over all samples.
    """

    rows: int
    documents: int
    samples: int
    same_searches: int
    overlap: float


def compare(source: CollectionStore, target: CollectionStore) -> Comparison:
    """Compare a copy with its original.

    Raises
    ------
    VectorStoreError
        Naming the first thing in which they differ.
    """
    wanted, there = contents(source), contents(target)
    if lacking := there.lacks(wanted):
        missing = len(lacking.documents) + len(lacking.others)
        more = len(lacking.gone_documents) + len(lacking.gone_others)
        raise _different(f"{missing} documents or rows are missing or differ, {more} are too many")
    rows, copied = source.count(), target.count()
    if rows != copied:
        raise _different(f"{rows} rows are in the original, and {copied} in the copy")
    samples = _samples(source)
    _check_same(samples, target)
    found = _nearest(source, samples)
    shares = [_share(*both) for both in zip(found, _nearest(target, samples), strict=True)]
    overlap = float(np.mean(shares)) if shares else 1.0
    if overlap < _ENOUGH:
        raise _different(
            f"of {len(samples)} searches for its own rows the copy finds {overlap:.3f} of what the "
            "original finds"
        )
    same = sum(share == 1.0 for share in shares)
    return Comparison(rows, len(wanted.documents), len(samples), same, round(overlap, 4))


def _different(how: str) -> VectorStoreError:
    return VectorStoreError(
        f"the copy is not the original: {how}",
        "run it again, which copies what is missing; if it stays so, drop the copy and begin anew",
    )


def _samples(store: CollectionStore) -> list[BaseNode]:
    """Return rows that are the same ones each time: those with the lowest digests of their ids."""
    ids = heapq.nsmallest(
        SAMPLES,
        (row.id for row in store.row_heads()),
        key=lambda id_: hashlib.blake2b(id_.encode()).digest(),
    )
    return store.get_nodes(ids) if ids else []


def _check_same(samples: Sequence[BaseNode], target: CollectionStore) -> None:
    ids = [node.node_id for node in samples]
    copies = {node.node_id: node for node in target.get_nodes(ids)} if ids else {}
    for node in samples:
        copy = copies.get(node.node_id)
        if copy is None:
            raise _different(f"the row {node.node_id} is not found by its id")
        if node.get_content() != copy.get_content() or node.metadata != copy.metadata:
            raise _different(f"the row {node.node_id} has another text or other metadata")
        if not np.allclose(node.get_embedding(), copy.get_embedding(), atol=1e-5):
            raise _different(f"the row {node.node_id} has another vector")


def _nearest(store: CollectionStore, samples: Sequence[BaseNode]) -> list[list[Hit]]:
    vectors = [node.get_embedding() for node in samples]
    return store.nearest(vectors, _LOOKED_AT) if vectors else []


def _share(found: Sequence[Hit], copied: Sequence[Hit]) -> float:
    """Return which share of the nearest rows both find; of those that tie, any will do."""
    nearest, copies = found[:NEAREST], copied[:NEAREST]
    if not nearest or not copies:
        return float(len(nearest) == len(copies))
    ids, last = {each.id for each in copies}, copies[-1].score
    near = _TIE * max(1.0, abs(last))
    # One that ties with the last of them may have been left out for another.
    return sum(each.id in ids or abs(each.score - last) <= near for each in nearest) / len(nearest)
