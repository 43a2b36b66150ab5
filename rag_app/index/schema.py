"""The frozen records of indexes: as they are, as they were changed, as they were measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_app.schema import Record


@dataclass(frozen=True)
class IndexStatus(Record):
    """The index of a collection: as it is configured, and as it is.

    Attributes
    ----------
    configured, built
        "type", "metric", "params" and "search_params": as they are set, and as they are used.
    chosen
        Those "params" and "search_params" that are not set and follow the rows, the "rows" that
        there were, and the "recall" that was measured; empty: nothing was chosen.
    differs
        What is configured and not built, in words; empty: nothing.
    backend
        "Milvus Lite" or "Milvus server", and its version.
    read_back
        What was really built, by segment, as Milvus Lite's files tell it; empty on a server, which
        tells only what it was asked for.
    indexed_rows
        Rows that the index covers, as Milvus tells it.
    state
        "Finished", "InProgress", "Failed", … as Milvus tells it.
    size
        In bytes, of what `size_of` says.
    """

    collection: str
    backend: str
    configured: Mapping[str, Any]
    built: Mapping[str, Any]
    chosen: Mapping[str, Any]
    differs: tuple[str, ...]
    read_back: tuple[Mapping[str, Any], ...]
    rows: int
    indexed_rows: int
    state: str
    size: int
    size_of: str


@dataclass(frozen=True)
class IndexChange(Record):
    """What applying the configured index did, or with ``dry_run`` would do.

    Attributes
    ----------
    before, after
        "type", "metric" and "params".
    changes
        What differs between the two, in words; empty: there was nothing to do.
    rows
        Rows in the collection, none of them written again.
    chosen
        As in `IndexStatus`.
    seconds
        By step: "release", "drop", "create", "load", "probe", "measure", and "total".
    recall
        Share of the truly nearest rows that a search finds now; None if nothing was built or
        chosen, or there are too few rows to tell.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    changes: tuple[str, ...]
    rows: int
    chosen: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    recall: float | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class IndexMeasurement(Record):
    """One index, searched with one set of parameters.

    Attributes
    ----------
    recall
        Share of the truly nearest ``top_k`` that were found, over all questions.
    p50_ms, p95_ms
        Of a search for one question, in milliseconds.
    batch_p50_ms, batch_p95_ms
        Of a search for 100 questions in one call, in milliseconds.
    build_seconds
        To create the index over the sealed rows and load it.
    size
        Of the index's files in bytes; None on a server, which does not tell.
    """

    type: str
    params: Mapping[str, Any]
    search_params: Mapping[str, Any]
    recall: float
    p50_ms: float
    p95_ms: float
    batch_p50_ms: float
    batch_p95_ms: float
    build_seconds: float
    size: int | None


@dataclass(frozen=True)
class IndexBenchmark(Record):
    """Index types measured on the same vectors.

    Attributes
    ----------
    vectors
        What was measured, in words.
    rows, dimension
        Of the vectors in the scratch copy.
    questions
        How many the recall was measured with.
    """

    vectors: str
    rows: int
    dimension: int
    questions: int
    top_k: int
    metric: str
    backend: str
    measurements: tuple[IndexMeasurement, ...]
