"""The rows of a collection as documents: listed, read, counted, deleted, sealed.

Rows that an ingest made are told from those of other LlamaIndex programs by `is_ours`.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, TextNode
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from rag_app.config.sections import VectorStoreSection
from rag_app.milvus.expression import to_expression
from rag_app.milvus.kept import Kept, read_kept
from rag_app.milvus.lite_check import position
from rag_app.milvus.lite_files import collection_folder
from rag_app.milvus.literals import among, quoted
from rag_app.milvus.node_store import BATCH_SIZE, MilvusStore, check_options
from rag_app.milvus.search import VECTOR_FIELD

BATCH_BYTES = 16_000_000
"""Of texts in a call. A server refuses calls of 64 MB (its proxy.grpc.serverMaxRecvSize), and 1,000
rows may have twice that."""

_LOOKS = 5
"""How often files and rows are compared, where another process writes between both."""

_LOG = logging.getLogger("rag_app")

_OUR_ID = re.compile(r"[0-9a-f]{32}\Z")
_DOCUMENT_FIELDS = "doc_id path title type size root content_hash node_count".split()  # noqa: SIM905

Span = tuple[str, int, int]
"""Document id, and the first and the last position in it."""


@dataclass
class StoredDocument:
    """A document as its rows tell it: `hashes` counts its rows by content hash."""

    id: str
    path: str
    title: str
    type: str
    size: int
    root: str
    node_count: int
    hashes: dict[str, int]

    @property
    def nodes(self) -> int:
        """How many rows it has."""
        return sum(self.hashes.values())

    @property
    def folder(self) -> Path:
        """The ingested folder that its path is relative to."""
        return Path(self.root)

    @property
    def file(self) -> Path:
        """Where its file lay when it was ingested."""
        return self.folder / self.path

    def is_complete(self, content_hash: str) -> bool:
        """Whether its rows are all of this version, and all there."""
        return self.hashes == {content_hash: self.node_count}


@dataclass(frozen=True)
class StoredRow:
    """A row's id, text and vector.

    Attributes
    ----------
    headings
        The path of those above it, which is embedded with the text if
        ``chunking.contextualize`` says so.
    """

    id: str
    text: str
    vector: list[float]
    headings: str = ""


@dataclass(frozen=True)
class RowOf:
    """What tells a row from others: whose it is, and of which version of its file.

    Attributes
    ----------
    text
        Of a row that another program wrote; empty for one that an ingest made.
    """

    id: str
    document_id: str
    content_hash: str
    is_ours: bool
    text: str = ""


class DocumentRows(MilvusStore):
    """The documents of an open collection, without searching."""

    def __init__(self, section: VectorStoreSection, **settings: Any) -> None:
        super().__init__(section, **settings)  # not pydantic's, which asks for every field

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        """Delete a document: the rows that an ingest made, or else all that have its id.

        Rows that another program wrote under the id of an ingested document stay, and are told of.
        """
        check_options(options)
        rows = list(self._rows(f"doc_id == {quoted(ref_doc_id)}", ["id", *_DOCUMENT_FIELDS]))
        ours = [row["id"] for row in rows if is_ours(row)]
        self.delete_ids(ours or [row["id"] for row in rows])
        if ours and (others := len(rows) - len(ours)):
            _LOG.warning(
                "left %d rows of the document %s, which another program wrote", others, ref_doc_id
            )

    def documents(self, filters: MetadataFilters | None = None) -> dict[str, StoredDocument]:
        """Tell which documents were ingested, by id, in the order of their paths.

        Parameters
        ----------
        filters
            Documents that have rows like this, and these rows of them.

        Raises
        ------
        InputError
            If `rag_app.milvus.expression` cannot translate the filters.
        """
        like = to_expression(filters, lite=self._backend.is_lite) if filters else ""
        found: dict[str, StoredDocument] = {}
        for row in self._rows(like or 'doc_id != ""', ["id", *_DOCUMENT_FIELDS]):
            if not is_ours(row):
                continue
            document = found.get(row["doc_id"])
            if document is None:
                fields = {key: row[key] for key in _DOCUMENT_FIELDS if key != "content_hash"}
                document = StoredDocument(id=fields.pop("doc_id"), hashes={}, **fields)
                found[document.id] = document
            row_hash = row["content_hash"]
            document.hashes[row_hash] = document.hashes.get(row_hash, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (item[1].path, item[1].root)))

    def rows_of(self, document_id: str) -> list[StoredRow]:
        """Return the rows that an ingest made of a document, with their vectors, in no order."""
        fields = ["id", "text", "headings", VECTOR_FIELD, *_DOCUMENT_FIELDS]
        rows = self._rows(f"doc_id == {quoted(document_id)}", fields)
        return [
            StoredRow(row["id"], row["text"], row[VECTOR_FIELD], row.get("headings", ""))
            for row in rows
            if is_ours(row)
        ]

    def row_heads(self, column: str = "", values: Sequence[str] = ()) -> Iterator[RowOf]:
        """Yield what tells rows apart: of those with one of these values in a column, or of all."""
        expression = among(column, values) if column else 'id != ""'
        others = []
        for row in self._rows(expression, ["id", *_DOCUMENT_FIELDS]):
            if is_ours(row):
                yield RowOf(row["id"], row["doc_id"], row["content_hash"], is_ours=True)
            else:
                others.append(row["id"])
        # Their ids say nothing of what is in them.
        for start in range(0, len(others), BATCH_SIZE):
            for row in self._rows(
                among("id", others[start : start + BATCH_SIZE]), ["id", "doc_id", "text"]
            ):
                yield RowOf(row["id"], row["doc_id"], "", is_ours=False, text=row["text"])

    def whole_nodes(
        self, column: str, values: Sequence[str], *, ours: bool
    ) -> Iterator[list[TextNode]]:
        """Yield nodes with their vectors, those of ingests or those of other programs, by pages.

        Rows of other programs that LlamaIndex did not write are no nodes, and are left out.
        """
        return self._pages_of_nodes(among(column, values), ours=ours, vectors=True)

    def pages_of_nodes(self, *, vectors: bool = False) -> Iterator[list[TextNode]]:
        """Yield all nodes, by pages."""
        return self._pages_of_nodes('id != ""', ours=None, vectors=vectors)

    def sample(self, most: int) -> list[TextNode]:
        """Return nodes that stand for all: ids are digests, so that the first ones are a draw."""
        return next(self.pages_of_nodes(), [])[:most]

    def _pages_of_nodes(
        self, expression: str, *, ours: bool | None, vectors: bool
    ) -> Iterator[list[TextNode]]:
        fields = ["id", "text", "_node_content", "_node_type", *_DOCUMENT_FIELDS]
        page: list[TextNode] = []
        for row in self._rows(expression, [*fields, VECTOR_FIELD] if vectors else fields):
            if ours not in {None, is_ours(row)} or not row.get("_node_content"):
                continue
            node = metadata_dict_to_node(dict(row), text=row["text"])
            if isinstance(node, TextNode):
                node.embedding = row[VECTOR_FIELD] if vectors else None
                page.append(node)
            if len(page) == BATCH_SIZE:
                yield page
                page = []
        if page:
            yield page

    def nodes_of(self, document_id: str) -> list[TextNode]:
        """Return a document's nodes in document order."""
        nodes = self._nodes(f"doc_id == {quoted(document_id)}")
        return sorted(nodes, key=lambda node: (node.start_char_idx or 0, node.node_id))

    def nodes_in(self, spans: Sequence[Span]) -> list[TextNode]:
        """Return the nodes of many stretches of documents, in no order."""
        expression = " or ".join(
            f"(doc_id == {quoted(document)} and position >= {first:d} and position <= {last:d})"
            for document, first, last in spans
        )
        return self._nodes(expression) if spans else []

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """Yield document id, node id and text of every row that an ingest made."""
        for row in self._rows('doc_id != ""', ["id", "text", *_DOCUMENT_FIELDS]):
            if is_ours(row):
                yield row["doc_id"], row["id"], row["text"]

    def vectors(self) -> Iterator[list[float]]:
        """Yield the vector of every row."""
        for row in self._rows('id != ""', [VECTOR_FIELD]):
            yield row[VECTOR_FIELD]

    def count(self) -> int:
        """Count the collection's rows."""
        # Strong: rows that were just written would else be taken for lost.
        rows = self._call(
            "query", filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(rows[0]["count(*)"])

    def flush(self) -> None:
        """Seal what was written: unflushed rows are searched very slowly."""
        self._call("flush")

    def settle(self, documents: int) -> None:
        """Seal what was written, and keep in mind how many documents and rows that are.

        Milvus Lite goes back to an older state without a word; `find_store` then knows.
        """
        self.flush()
        if not self._backend.has_files:
            return
        now = position(collection_folder(self._uri, self.collection_name))
        # With a log, rows would be counted that are not in the files of this version.
        if now is not None and not now.has_log:
            kept = Kept(documents, self.count(), now.version, now.writes)
            self._call("alter_collection_properties", properties=kept.as_property())

    def lost(self) -> str:
        """Say what a collection of Milvus Lite lost since it was written; empty: nothing."""
        if not self._backend.has_files:
            return ""
        described = self._call("describe_collection")
        kept = read_kept(described.get("properties", {}))
        if kept is None:
            return ""
        folder = collection_folder(self._uri, self.collection_name)
        for _ in range(_LOOKS):
            now, rows = position(folder), self.count()
            if position(folder) == now:  # else another process wrote meanwhile
                return kept.loss(now, rows)
        return ""


def batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in lists that a server takes in one call."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        added = sum(len(value.encode()) for value in row.values() if isinstance(value, str))
        if batch and (len(batch) == BATCH_SIZE or size + added > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += added
    if batch:
        yield batch


def context_of(node: BaseNode) -> str:
    """Return what is embedded before a node's text, and counts with its words."""
    is_hidden = "headings" in node.excluded_embed_metadata_keys
    return "" if is_hidden else str(node.metadata.get("headings", ""))


def is_ours(row: Mapping[str, Any]) -> bool:
    """Whether an ingest made a row; others come from LlamaIndex applications, with any ids."""
    return (
        all(key in row for key in _DOCUMENT_FIELDS)
        and _OUR_ID.match(row["doc_id"]) is not None
        and _OUR_ID.match(row["id"]) is not None
    )
