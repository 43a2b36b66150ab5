"""Documents → nodes: split, counted in characters or the embedder's own tokens, none unread."""

import hashlib
import re
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

from llama_index.core.node_parser import NodeParser as LlamaIndexNodeParser
from llama_index.core.node_parser import SentenceSplitter
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
from rag_app.documents.file_types import PAGE_BREAK
from rag_app.errors import ConfigError

MAX_CHARACTERS = 16_000
"""Of a node, whatever it counts in tokens (WordPiece takes a word of any length for one): a row of
Milvus holds 65,535 bytes of text, and a character has up to four."""

_MAX_PART = 1_000_000
"""Characters that are split in one go: the splitter keeps every token of them in memory."""

_LONG_RUN = re.compile(
    r"(?<![^\s,.;。？！])[^\s,.;。？！]{1000,}|(?<![^\w\s])[^\w\s]{1000,}"  # noqa: RUF001
)
"""What the splitter would take apart character by character: no space or mark to split at (its own
expression), or nothing but marks."""

Tokenize = Callable[[str], Sequence[object]]


class NodeParser(LlamaIndexNodeParser):
    """Splits documents into nodes that the embedder reads whole; a LlamaIndex node parser.

    What an ingest writes is what it makes of `rag_app.documents.directory_reader.DirectoryReader`'s
    documents. It takes those of any other reader as well; the text alone reaches the embedder and
    the LLM, and no metadata.

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

    _tokenize: Tokenize = PrivateAttr()
    _splitter: SentenceSplitter = PrivateAttr()
    _shortener: SentenceSplitter = PrivateAttr()

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
            **settings,
        )
        # Before the splitter, which would import all of it.
        _import_nltk()
        self._tokenize = tokenize
        self._splitter = _splitter(
            section.size, section.overlap, tokenize if section.unit == "tokens" else list
        )
        # An overlap that is counted in characters is no number of tokens.
        overlap = section.overlap if section.unit == "tokens" else 0
        self._shortener = _splitter(reads, min(overlap, reads - 1), tokenize)

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
            row. Metadata is the document's, with ``node_count`` (int), ``position`` (int, from 0)
            and, for documents with pages, ``page`` (int, from 1).
        """
        whole = document.get_content(MetadataMode.NONE)
        pieces = [
            piece
            for text in self._texts(whole)
            for piece in self._shorten(text)
            if piece.strip(f"{PAGE_BREAK} \n")
        ]
        given = document.metadata if self.include_metadata else {}
        metadata = {**given, "node_count": len(pieces)}
        breaks = [at for at, character in enumerate(whole) if character == PAGE_BREAK]
        source = document.source_node or RelatedNodeInfo(node_id=document.node_id)
        seen: Counter[str] = Counter()
        nodes: list[TextNode] = []
        start = -1
        for piece in pieces:
            # Behind the piece before: overlaps and repeated text are there more than once. What the
            # splitter changed is not found at all, and counts as where that one is.
            start = max(whole.find(piece, start + 1), start)
            text = piece.replace(PAGE_BREAK, "\n").strip()
            own = {"position": len(nodes)}
            if breaks:
                own["page"] = bisect(breaks, start) + 1
            id_ = node_id(document.node_id, text, seen[text])
            nodes.append(_node(id_, text, start, {**metadata, **own}, source))
            seen[text] += 1
        if self.include_prev_next_rel:
            _relate(nodes)
        return nodes

    def _texts(self, whole: str) -> Iterator[str]:
        """Yield texts of the size that was asked for, of parts that can be split in good time."""
        for part in _parts(whole):
            start = 0
            for run in _LONG_RUN.finditer(part):
                yield from self._splitter.split_text(part[start : run.start()])
                yield from self._cut(run[0])
                start = run.end()
            yield from self._splitter.split_text(part[start:])

    def _cut(self, run: str) -> Iterator[str]:
        """Cut what has nowhere to split into pieces of at most the size, without an overlap."""
        start = 0
        step = self.size if self.unit == "characters" else MAX_CHARACTERS
        most = self.size if self.unit == "tokens" else self.reads
        while start < len(run):
            piece = run[start : start + step]
            if (tokens := len(self._tokenize(piece))) > most and step > 1:
                # At most half as long each time, so that it soon ends however
                # unevenly the tokens lie.
                step = max(min(step // 2, step * most // tokens), 1)
                continue
            yield piece
            start += step

    def _shorten(self, text: str) -> list[str]:
        """Split a text further that is longer than the embedder reads or Milvus keeps."""
        fits = len(self._tokenize(text)) <= self.reads
        return [
            piece[start : start + MAX_CHARACTERS]
            for piece in ([text] if fits else self._shortener.split_text(text))
            for start in range(0, len(piece), MAX_CHARACTERS)
        ]


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


def node_id(document_id: str, text: str, occurrence: int) -> str:
    """Return a node's id: a hex digest, so that writing the node twice changes nothing."""
    digest = hashlib.sha256(f"{document_id}\0{text}\0{occurrence}".encode())
    return digest.hexdigest()[:32]


def _node(
    id_: str, text: str, start: int, metadata: dict[str, Any], source: RelatedNodeInfo
) -> TextNode:
    hidden = list(metadata)
    return TextNode(
        id_=id_,
        text=text,
        start_char_idx=start,
        end_char_idx=start + len(text),
        metadata=metadata,
        excluded_embed_metadata_keys=hidden,
        excluded_llm_metadata_keys=hidden,
        relationships={NodeRelationship.SOURCE: source},
    )


def _relate(nodes: Sequence[TextNode]) -> None:
    """Tell each node which ones are before and after it, by their ids."""
    for one, other in pairwise(nodes):
        one.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=other.node_id)
        other.relationships[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=one.node_id)


def _import_nltk() -> None:
    """Import what the splitter finds sentences with, and not all that NLTK has a use for.

    It goes without scipy and scikit-learn where they are not installed; they take 1.1 s of 1.3 s.
    """
    if "nltk" in sys.modules:
        return
    absent = [name for name in ("scipy.stats", "sklearn") if name not in sys.modules]
    # A module that is None there cannot be imported, as if it were not installed.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        import nltk  # noqa: F401
    finally:
        # Out again: whoever else imports them is to get them.
        for name in absent:
            del sys.modules[name]


def _until_it_is_too_long(tokenize: Tokenize, size: int) -> Tokenize:
    """Let a whole document not be tokenized only to learn that it is longer than a node."""
    enough = 32 * size

    def tokens(text: str) -> Sequence[object]:
        if len(text) > 2 * enough and (cut := text.rfind(" ", 0, enough)) > 0:
            start = tokenize(text[:cut])  # whole words, so that the text has these tokens and more
            if len(start) > size:
                return start
        return tokenize(text)

    return tokens


def _splitter(size: int, overlap: int, tokenize: Tokenize) -> SentenceSplitter:
    return SentenceSplitter(
        chunk_size=size,
        chunk_overlap=overlap,
        tokenizer=_until_it_is_too_long(tokenize, size),  # used for the length of what it gives
        # LlamaIndex's own default is three line breaks, which few texts have.
        paragraph_separator="\n\n",
    )
