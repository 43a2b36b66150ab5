"""Documents → nodes that follow their structure, and that the embedder reads to the end."""

import hashlib
from bisect import bisect, bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from llama_index.core.node_parser import NodeParser as LlamaIndexNodeParser
from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from pydantic import Field, PrivateAttr

from rag_app.callbacks import own_callbacks
from rag_app.config.sections import ChunkingSection
from rag_app.documents.blocks import Outline
from rag_app.documents.file_types import PAGE_BREAK, Span
from rag_app.documents.grouping import Grouper, Piece, parents_of
from rag_app.documents.laid_out import LaidOut
from rag_app.documents.places import Places
from rag_app.documents.prose import MAX_CHARACTERS, ProseSplitter, Tokenize, until_too_long
from rag_app.errors import ConfigError
from rag_app.schema import HEADING_SEPARATOR

MAX_BOXES = 64
"""Of a node."""

_MAX_PART = 1_000_000
"""Characters that are split in one go: the splitter keeps every token of them in memory."""

_LETTERS = 4.5
"""Characters of a token, in English and BERT's vocabulary, spaces included."""

_BY_LINE = frozenset({"code", "csv", "json", "notebook", "ods", "xls", "xlsx"})
"""Types of documents whose lines are what sentences are to others; "#" begins no heading there."""


class NodeParser(LlamaIndexNodeParser):
    """Splits documents into nodes that the embedder reads whole; a LlamaIndex node parser.

    What an ingest writes is what it makes of `rag_app.documents.directory_reader.DirectoryReader`'s
    documents. It takes those of any other reader as well. The text reaches the embedder and the
    LLM, and no metadata; the embedder also reads the headings above it, if
    ``chunking.contextualize`` says so.

    Parameters
    ----------
    section
        The configuration's ``[chunking]``.
    tokenize
        The embedder's tokenizer, special tokens left out.
    reads
        How many such tokens the embedder reads.
    settings
        LlamaIndex's ``include_metadata``, ``include_prev_next_rel`` and ``callback_manager``.

    Raises
    ------
    ConfigError
        If nodes of ``chunking.size`` tokens are longer than that.
    """

    size: int = Field(description="Of a node, in units.")
    overlap: int = Field(description="Of neighbouring nodes, in units.")
    unit: Literal["tokens", "characters"] = Field(description="What sizes are counted in.")
    reads: int = Field(description="Tokens that the embedder reads.")
    parents: bool = Field(description="Whether parts know what they are parts of.")
    contextualize: str = Field(description="What is embedded before a node's text.")

    _section: ChunkingSection = PrivateAttr()
    _tokenize: Tokenize = PrivateAttr()
    _prose: ProseSplitter = PrivateAttr()
    _grouper: Grouper = PrivateAttr()

    def __init__(
        self, section: ChunkingSection, tokenize: Tokenize, reads: int, **settings: Any
    ) -> None:
        if section.unit == "tokens" and section.size > reads:
            raise ConfigError(
                f"chunking.size is {section.size} tokens, and the embedder reads {reads}",
                f"set chunking.size to at most {reads}",
            )
        settings.setdefault("callback_manager", own_callbacks())
        super().__init__(
            size=section.size,
            overlap=section.overlap,
            unit=section.unit,
            reads=reads,
            parents=section.parents,
            contextualize=section.contextualize,
            **settings,
        )
        self._section = section
        self._tokenize = tokenize
        self._prose = ProseSplitter(section, tokenize, reads)
        enough = until_too_long(tokenize, section.size)
        count = len if section.unit == "characters" else lambda text: len(enough(text))
        self._grouper = Grouper(section.size, section.overlap, count, self._prose.split)

    def __reduce__(self) -> Any:
        # LlamaIndex would leave out, with a warning, what it splits with. Handlers stay where they
        # are: they belong to a process.
        kept = {name: getattr(self, name) for name in ("include_metadata", "include_prev_next_rel")}
        return partial(type(self), **kept), (self._section, self._tokenize, self.reads)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "NodeParser"

    def _parse_nodes(
        self, nodes: Sequence[BaseNode], show_progress: bool = False, **_: Any
    ) -> list[BaseNode]:
        return [part for node in nodes for part in self.split(node)]

    def _postprocess_parsed_nodes(
        self, nodes: list[BaseNode], parent_doc_map: dict[str, Any]
    ) -> list[BaseNode]:
        return nodes  # they come complete: LlamaIndex looks for each in the text once more

    def split(self, document: BaseNode) -> list[TextNode]:
        """Split one document.

        Returns
        -------
        list of TextNode
            In document order, each related to the document, and to the ones before and after it.
            Ids are digests of document id, text and occurrence, so that the same text keeps its
            row. Metadata is the document's, with ``node_count`` (int), ``position`` (int, from 0),
            ``headings`` (str, the path of headings above, as far as there are any, and the rows of
            a sheet or pages of an attachment) and, for documents with pages, ``page`` (int, from 1)
            and, as far as the reader tells them, ``boxes`` (lists of page, x0, y0, x1, y1: see
            `Span`). Those that belong together have ``parent``, the positions of the first and the
            last one. ``start_char_idx`` and ``end_char_idx`` tell where it stands in the text; the
            header that a part of a table repeats is before that.
        """
        whole = document.get_content(MetadataMode.NONE)
        places = Places(document.metadata.get("places", ()), whole)
        pieces = list(self._pieces(whole, str(document.metadata.get("type")), places))
        given = dict(document.metadata) if self.include_metadata else {}
        given.pop("places", None)
        metadata = {**given, "node_count": len(pieces)}
        spans = document.spans if isinstance(document, LaidOut) else []
        starts = [span[0] for span in spans]
        breaks = [at for at, character in enumerate(whole) if character == PAGE_BREAK]
        source = document.source_node or RelatedNodeInfo(node_id=document.node_id)
        seen: Counter[str] = Counter()
        nodes: list[TextNode] = []
        parents = parents_of(pieces, whole, self._longest_parent)
        for piece, parent in zip(pieces, parents, strict=True):
            own: dict[str, Any] = {"position": len(nodes)}
            if parent and self.parents:
                own["parent"] = list(parent)
            if path := [*piece.path, *places.between(piece.start, piece.end)]:
                own["headings"] = HEADING_SEPARATOR.join(path)
            if breaks:
                own["page"] = bisect(breaks, piece.start) + 1
            if spans:
                first = max(bisect(starts, piece.start) - 1, 0)
                of_piece = spans[first : bisect_left(starts, piece.end)]
                own["boxes"] = boxes_of([span for span in of_piece if span[1] > piece.start])
            text = piece.header + whole[piece.start : piece.end].replace(PAGE_BREAK, "\n")
            id_ = node_id(document.node_id, text, seen[text])
            node = _node(id_, text, piece, {**metadata, **own}, source)
            if self.contextualize != "none" and self._has_room(node):
                node.excluded_embed_metadata_keys.remove("headings")
            nodes.append(node)
            seen[text] += 1
        if self.include_prev_next_rel:
            _relate(nodes)
        return nodes

    def _pieces(self, whole: str, kind: str, places: Places) -> Iterator[Piece]:
        """Yield what becomes a node, white space around it left out."""
        outline = Outline(has_headings=kind != "text" and kind not in _BY_LINE)
        start = 0
        for part in _parts(whole):
            sections = (
                places.sections(part, start)
                if kind == "code" and places.are_there
                else outline.sections(part)
            )
            for piece in self._grouper.pieces(part, sections, by_line=kind in _BY_LINE):
                piece.start += start
                piece.end += start
                yield from self._readable(whole, piece)
            start += len(part)

    def _readable(self, whole: str, piece: Piece) -> Iterator[Piece]:
        """Cut a piece further that is longer than the embedder reads or Milvus keeps."""
        text = piece.header + whole[piece.start : piece.end]
        if len(text) <= MAX_CHARACTERS and self._count_tokens(text) <= self.reads:
            shorter = [whole[piece.start : piece.end]]
            header = piece.header
        else:
            shorter, header = self._prose.shorten(whole[piece.start : piece.end]), ""
        at = piece.start
        for each in shorter:
            found = max(whole.find(each, at, piece.end), at)
            bare = each.strip(f"{PAGE_BREAK} \n")
            if bare:
                start = found + each.index(bare)
                yield Piece(start, start + len(bare), piece.path, header)
            at = found + 1

    def _has_room(self, node: TextNode) -> bool:
        """Whether the embedder reads all of a node also with its headings before it."""
        if not (headings := str(node.metadata.get("headings", ""))):
            return False
        room = self.reads - self._count_tokens(headings)
        # WordPiece makes no more tokens of both together; others may make one of what joins them.
        is_short = self.unit == "tokens" and self.size < room
        return is_short or self._count_tokens(node.text) < room

    @property
    def _longest_parent(self) -> int:
        """Characters: of nodes in a language that the embedder's tokenizer knows."""
        return round(self.size * (_LETTERS if self.unit == "tokens" else 1))

    def _count_tokens(self, text: str) -> int:
        return len(self._tokenize(text))


def _parts(whole: str) -> Iterator[str]:
    """Yield parts of a long text, each up to the last end of a paragraph, line or word in it."""
    start = 0
    while len(whole) - start > _MAX_PART:
        end = start + _MAX_PART
        for mark in ("\n\n", "\n", " "):
            if (found := whole.rfind(mark, start + _MAX_PART // 2, end)) > 0:
                end = found + len(mark)
                break
        yield whole[start:end]
        start = end
    yield whole[start:]


def boxes_of(spans: Sequence[Span]) -> list[list[float]]:
    """Return the page and box of each line; of lines together where there are too many."""
    together = -(-len(spans) // MAX_BOXES)
    boxes: list[list[float]] = []
    for number, (_, _, page, x0, y0, x1, y1) in enumerate(spans):
        if number % together and boxes[-1][0] == page:
            _, left, top, right, bottom = boxes[-1]
            boxes[-1][1:] = min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)
        else:
            boxes.append([int(page), x0, y0, x1, y1])
    return boxes[:MAX_BOXES]


def node_id(document_id: str, text: str, occurrence: int) -> str:
    """Return a node's id: a hex digest, so that writing the node twice changes nothing."""
    digest = hashlib.sha256(f"{document_id}\0{text}\0{occurrence}".encode())
    return digest.hexdigest()[:32]


def _node(
    id_: str, text: str, piece: Piece, metadata: dict[str, Any], source: RelatedNodeInfo
) -> TextNode:
    return TextNode(
        id_=id_,
        text=text,
        start_char_idx=piece.start,
        end_char_idx=piece.end,
        metadata=metadata,
        excluded_embed_metadata_keys=list(metadata),
        excluded_llm_metadata_keys=list(metadata),
        metadata_template="{value}",  # without "headings: " before them
        relationships={NodeRelationship.SOURCE: source},
    )


def _relate(nodes: Sequence[TextNode]) -> None:
    """Tell each node which ones are before and after it, by their ids."""
    for one, other in pairwise(nodes):
        one.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=other.node_id)
        other.relationships[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=one.node_id)
