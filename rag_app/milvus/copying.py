"""Rows copied from one collection to another: what differs, and no more.

A document's rows go over together, new ones before stale ones are deleted, so that it is there in
its old or its new version whenever the process ends. A row is known by its id and its file's
content hash: what is there already is not written again, and a copy that was killed goes on.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from llama_index.core.schema import TextNode

from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.rows import RowOf

DOCUMENTS_AT_ONCE = 100
"""Whose rows are compared and copied together."""

FLUSH_EVERY = 32_000
"""Rows between flushes: unflushed rows are searched slowly, and each flush costs a little."""

Change = Callable[[list[TextNode]], list[TextNode]]
"""What becomes of nodes on the way; those that it leaves out are copied the next time."""


@dataclass(frozen=True)
class Contents:
    """What a collection holds, in digests that do not depend on the order of rows.

    Attributes
    ----------
    documents
        Of those that an ingest made, by id: of the ids and content hashes of all rows.
    others
        Of rows that other programs wrote, by id: of their text.
    """

    documents: Mapping[str, int]
    others: Mapping[str, int]

    def lacks(self, wanted: "Contents") -> "Lacking":
        """Tell what has to be copied here, and deleted here, to have what is wanted."""
        return Lacking(
            [id_ for id_, is_ in wanted.documents.items() if self.documents.get(id_) != is_],
            [id_ for id_, is_ in wanted.others.items() if self.others.get(id_) != is_],
            [id_ for id_ in self.documents if id_ not in wanted.documents],
            [id_ for id_ in self.others if id_ not in wanted.others],
        )


@dataclass(frozen=True)
class Lacking:
    """What has to be done for two collections to hold the same: ids of documents and rows."""

    documents: list[str]
    others: list[str]
    gone_documents: list[str]
    gone_others: list[str]

    def __bool__(self) -> bool:
        return bool(self.documents or self.others or self.gone_documents or self.gone_others)


@dataclass
class Copied:
    """What was done.

    Attributes
    ----------
    left
        Documents and rows that it did not come to, because it was asked to stop.
    """

    written: int = 0
    deleted: int = 0
    left: list[str] = field(default_factory=list)


def contents(store: CollectionStore) -> Contents:
    """Read what a collection holds; of a million rows that is 32 MB of digests."""
    documents: defaultdict[str, int] = defaultdict(int)
    others: dict[str, int] = {}
    for row in store.row_heads():
        if row.is_ours:
            documents[row.document_id] ^= _digest(row.id, row.content_hash)
        else:
            others[row.id] = _digest(row.id, row.text)
    return Contents(dict(documents), others)


def copy_rows(
    source: CollectionStore,
    target: CollectionStore,
    *,
    change: Change | None = None,
    stop: Event | None = None,
    progress: Callable[[int, int], None] | None = None,
    documents: bool = True,
) -> Copied:
    """Make a collection hold what another one holds.

    Parameters
    ----------
    change
        What becomes of nodes on the way, e.g. other vectors; None: they stay as they are. Ids and
        content hashes have to stay.
    stop
        When set, it ends after the rows that are being written.
    progress
        Called with how many documents, and rows of others, are done and how many there are.
    documents
        Whether to copy what ingests made, too, and not only the rows of other programs.

    Raises
    ------
    VectorStoreError
        If Milvus fails. What was written stays, and is not written again.
    """
    lacking = contents(target).lacks(contents(source))
    done, tell = Copied(), progress or (lambda _done, _all: None)
    units = [("id", lacking.others)]
    if documents:
        units.insert(0, ("doc_id", lacking.documents))
    total, count, unflushed = sum(len(ids) for _, ids in units), 0, 0
    for column, ids in units:
        for start in range(0, len(ids), DOCUMENTS_AT_ONCE):
            some = ids[start : start + DOCUMENTS_AT_ONCE]
            if stop is not None and stop.is_set():
                done.left += ids[start:]
                break
            written, is_whole = _copy_some(source, target, column, some, change, done)
            done.left += [] if is_whole else some
            count, unflushed = count + len(some), unflushed + written
            if unflushed >= FLUSH_EVERY:
                target.flush()
                unflushed = 0
            tell(count, total)
    if documents:
        for id_ in lacking.gone_documents:
            target.delete(id_)
    target.delete_ids(lacking.gone_others)
    done.deleted += len(lacking.gone_documents) * documents + len(lacking.gone_others)
    target.flush()
    return done


def _copy_some(
    source: CollectionStore,
    target: CollectionStore,
    column: str,
    ids: Sequence[str],
    change: Change | None,
    done: Copied,
) -> tuple[int, bool]:
    """Copy some documents' rows; return how many were written, and whether those are all."""
    there = {row.id: _of(row) for row in target.row_heads(column, ids) if _is_of(row, column)}
    wanted: set[str] = set()
    written, is_whole = 0, True
    for nodes in source.whole_nodes(column, ids, ours=column == "doc_id"):
        wanted |= {node.node_id for node in nodes}
        new = [node for node in nodes if there.get(node.node_id) != _of_node(node)]
        ready = change(new) if change else new
        target.add(ready)
        written += len(ready)
        is_whole = is_whole and len(ready) == len(new)
    if is_whole:
        stale = [id_ for id_ in there if id_ not in wanted]
        target.delete_ids(stale)
        done.deleted += len(stale)
    done.written += written
    return written, is_whole


def _is_of(row: RowOf, column: str) -> bool:
    return row.is_ours == (column == "doc_id")


def _of(row: RowOf) -> str:
    return row.content_hash if row.is_ours else row.text


def _of_node(node: TextNode) -> str:
    return str(node.metadata.get("content_hash", node.text))


def _digest(*parts: str) -> int:
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())
