"""The frozen records that cross the public API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class Record:
    """Base of the records: `to_dict` is what ``--json`` prints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain dictionaries and lists."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class SkippedFile(Record):
    """A file that was not read.

    Attributes
    ----------
    path
        Relative to the ingested folder.
    reason
        Why, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class DocumentInfo(Record):
    """A document in the collection.

    Attributes
    ----------
    id
        Hex digest of the path.
    path
        Relative to the ingested folder, with forward slashes.
    nodes
        How many rows it has.
    content_hash
        Hex digest of the file's bytes and of the readers' version.
    size
        In bytes.
    """

    id: str
    path: str
    title: str
    type: str
    size: int
    nodes: int
    content_hash: str


@dataclass(frozen=True)
class IngestReport(Record):
    """What an ingest did.

    Attributes
    ----------
    new, changed, unchanged
        Paths of the documents, relative to the ingested folder.
    nodes_written, nodes_embedded, nodes_deleted
        Rows written (of new and changed documents), how many of them had to be embedded, and stale
        rows deleted.
    rows
        Rows in the collection afterwards.
    seconds
        By stage: "plan", "read", "embed", "write", and "total" by the clock on the wall.
    notes
        What the user should know, e.g. which device the embedder chose.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    nodes_written: int = 0
    nodes_embedded: int = 0
    nodes_deleted: int = 0
    rows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source(Record):
    """A context that an answer rests on.

    Attributes
    ----------
    number
        Of its document, as cited in the answer: ``[1]``.
    id
        Of the node.
    page
        From 1, for documents that have pages.
    score
        Of the retriever.
    text
        As the LLM saw it.
    """

    number: int
    id: str
    path: str
    file_name: str
    title: str
    page: int | None
    score: float | None
    text: str


@dataclass(frozen=True)
class LedgerEntry(Record):
    """What became of one retrieved node.

    Attributes
    ----------
    rank
        1 for the best.
    fate
        "kept", "trimmed" or "dropped".
    tokens
        Of its text, as retrieved; None without an LLM.
    """

    rank: int
    id: str
    path: str
    score: float | None
    fate: str
    tokens: int | None
    reason: str
