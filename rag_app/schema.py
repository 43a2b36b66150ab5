"""The frozen records that cross the public API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

HEADING_SEPARATOR = " › "
"""Between the headings of a path."""


class Record:
    """Base of the records: `to_dict` is what ``--json`` prints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain dictionaries and lists."""
        return {name: _plain(value) for name, value in asdict(self).items()}  # type: ignore[call-overload]


def _plain(value: Any) -> Any:
    """Make lists of tuples, as JSON would."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class SkippedFile(Record):
    """A file that was not read.

    Attributes
    ----------
    path
        Relative to the ingested folder.
    reason
        Why, in a few words.
    root
        The ingested folder.
    """

    path: str
    reason: str
    root: str = ""


@dataclass(frozen=True)
class FileWarning(Record):
    """What a library or a reader warned of while it read a file.

    Attributes
    ----------
    path
        Relative to the ingested folder.
    """

    path: str
    message: str


@dataclass(frozen=True)
class DocumentInfo(Record):
    """A document in the collection.

    Attributes
    ----------
    id
        Hex digest of root and path; rows made before have one of the path alone.
    root
        The ingested folder.
    path
        Relative to it, with forward slashes.
    nodes
        How many rows it has.
    content_hash
        Hex digest of the file's bytes and of the readers' version.
    size
        In bytes.
    """

    id: str
    root: str
    path: str
    title: str
    type: str
    size: int
    nodes: int
    content_hash: str


@dataclass(frozen=True)
class IngestProgress(Record):
    """How far an ingest is.

    Attributes
    ----------
    files_done, files
        Files that are in the collection now or were skipped, and all that are to be read.
    nodes
        Embedded so far.
    share
        Of the work, from 0 to 1, in bytes of the files.
    seconds
        Since it began to read.
    """

    files_done: int
    files: int
    nodes: int
    share: float
    seconds: float

    @property
    def nodes_per_second(self) -> float:
        """Nodes embedded by seconds."""
        return self.nodes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What the rest will take at this rate; None before there is one."""
        return self.seconds * (1 - self.share) / self.share if self.share else None


@dataclass(frozen=True)
class IngestReport(Record):
    """What an ingest did, or with ``dry_run`` would do.

    Attributes
    ----------
    new, changed, unchanged
        Paths of the documents, relative to the ingested folder; those that an interrupted run did
        not come to are left out.
    removed
        Paths of the documents that were deleted: if ``pruned``, those whose file is gone, and in
        any case those whose file is in the collection by another path.
    gone
        Paths of the documents whose file is gone and that are still there, without ``pruned``.
    protected
        Paths of the documents whose file could not be looked for: in a folder that cannot be read,
        behind a dangling link, under a folder that is away.
    nodes
        Nodes of the documents that are "new", "changed", "unchanged", "removed" and "gone"; of new
        and changed ones only what was read, so 0 with ``dry_run``.
    nodes_written, nodes_embedded, nodes_reused, nodes_deleted
        Rows written, how many of them had to be embedded and how many took a vector that was there,
        and rows deleted.
    rows
        Rows in the collection afterwards.
    seconds
        By stage: "plan", "read", "embed", "write" (the last three at the same time), "index" (for
        what was written), and "total" by
        the clock on the wall.
    interrupted
        Whether something was left to do when it was asked to stop.
    notes
        What the user should know, e.g. which device the embedder chose.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)
    nodes_written: int = 0
    nodes_embedded: int = 0
    nodes_reused: int = 0
    nodes_deleted: int = 0
    rows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    pruned: bool = False
    dry_run: bool = False
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[FileWarning, ...] = ()

    @property
    def nodes_per_second(self) -> float:
        """Nodes written by total seconds."""
        total = self.seconds.get("total", 0.0)
        return self.nodes_written / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the record with `nodes_per_second`."""
        return {**super().to_dict(), "nodes_per_second": self.nodes_per_second}


@dataclass(frozen=True)
class Source(Record):
    """A passage that an answer rests on: one context of the prompt.

    Attributes
    ----------
    number
        As cited in the answer, ``[1]``: from 1, in prompt order.
    id
        Of the node.
    document_id
        Of the document.
    path
        Of the document, relative to the ingested folder.
    type
        Of the document: "markdown", "pdf", …
    page
        From 1, for documents that have pages.
    score
        Of the retriever.
    text
        As the LLM saw it.
    copies
        Paths of documents with a near-copy of the text, which took no place of their own.
    headings
        Those above it as a path, e.g. "Index › HNSW › Parameters"; empty without any.
    boxes
        Where it stands in a PDF: ``(page, x0, y0, x1, y1)`` of each line or paragraph, the page
        from 1, the rest in points from the page's top left corner.
    """

    number: int
    id: str
    document_id: str
    path: str
    file_name: str
    title: str
    type: str
    page: int | None
    score: float | None
    text: str
    copies: tuple[str, ...] = ()
    headings: str = ""
    boxes: tuple[tuple[float, ...], ...] = ()

    @property
    def name(self) -> str:
        """Title and headings as one path; a first heading that repeats the title stands once."""
        path = self.headings.split(HEADING_SEPARATOR) if self.headings else []
        if path[:1] != [self.title] and self.title:
            path.insert(0, self.title)
        return HEADING_SEPARATOR.join(path)


@dataclass(frozen=True)
class SentenceSupport(Record):
    """How far the passages bear out a sentence of an answer.

    Attributes
    ----------
    start, end
        Where it stands in the answer, in characters.
    citations
        The numbers that it cites; without any it was held against all contexts.
    score
        From 0 to 1.
    marks
        "unsupported": the score is too low; "number", "name": one of it stands in no passage that
        was looked at; "negation": only one of the two says "not".
    """

    start: int
    end: int
    citations: tuple[int, ...]
    score: float
    marks: tuple[str, ...]

    @property
    def is_supported(self) -> bool:
        """Whether nothing is marked."""
        return not self.marks


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


@dataclass(frozen=True)
class Problem(Record):
    """Something wrong with a document's rows.

    Attributes
    ----------
    kind
        "incomplete": rows are missing; "outdated": rows are of an older version than the file, or
        of several; "duplicate": rows that are not its text; "orphaned": the file is gone; "unseen":
        the file cannot be looked for. Of the whole collection, "lost": it holds less than when it
        was written; "index": a search finds too little.
    path
        Of the document, relative to its folder; or the collection's name.
    repaired
        Whether it was mended.
    """

    kind: str
    path: str
    detail: str
    repaired: bool = False


@dataclass(frozen=True)
class VerifyReport(Record):
    """What `verify` found.

    Attributes
    ----------
    documents, rows
        In the collection, after repair if there was one.
    foreign_rows
        Of those, rows that a LlamaIndex application put in; they are never touched.
    index_recall
        Share of the truly nearest rows that the index finds; None if there are too few rows.
    """

    problems: tuple[Problem, ...]
    documents: int
    rows: int
    foreign_rows: int = 0
    index_recall: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return all(problem.repaired for problem in self.problems)


@dataclass(frozen=True)
class PromoteReport(Record):
    """What copying a collection to another Milvus did; it has been found equal.

    Attributes
    ----------
    written, deleted
        Rows, by this run; less than all if it went on with what an earlier one had copied.
    samples
        Rows that were compared one by one, and whose neighbours both were asked for.
    same_searches, overlap
        How many of these found the same rows but for ties, and which share of rows both found.
    missing
        What the target cannot do.
    seconds
        "copy", "index", "compare", "total".
    """

    source: str
    target: str
    collection: str
    documents: int
    rows: int
    written: int
    deleted: int
    samples: int
    same_searches: int
    overlap: float
    missing: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
