"""Answers without a model: the sentences of the contexts closest to the question, quoted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llama_index.core.base.embeddings.base import BaseEmbedding, similarity
from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

from rag_app.config import ExtractiveSection
from rag_app.schema import Source

NOTHING_RELEVANT = "Nothing relevant to this question was found in the documents."

_BLOCK_LINE = re.compile(r"\s*(\||[-*+] |\d+[.)] |#|```|>)")
"""Lines that stand alone in Markdown: table rows, list items, headings, code, quotations."""
_NO_ANSWER = re.compile(r"\s*(#|```|\|?[\s:|-]+\|?$)")
"""Headings, fences and table rulers are not sentences."""


@dataclass(frozen=True)
class _Sentence:
    text: str
    source: Source


class Extractor:
    """Quotes sentences: verbatim, with the number of their source.

    Parameters
    ----------
    section
        The configuration's ``[llm.extractive]``.
    embedder
        The collection's own embedding model: closeness is the cosine of its vectors.
    """

    def __init__(self, section: ExtractiveSection, embedder: BaseEmbedding) -> None:
        self._section = section
        self._embedder = embedder

    def answer(self, question: str, sources: Sequence[Source]) -> str:
        """Return at most `max_sentences` quoted sentences, closest first, or `NOTHING_RELEVANT`."""
        sentences = list(_sentences(sources))
        if not sentences:
            return NOTHING_RELEVANT
        asked = self._embedder.get_query_embedding(question)
        vectors = self._embedder.get_text_embedding_batch([each.text for each in sentences])
        scored = sorted(
            (
                (similarity(asked, vector), sentence)
                for sentence, vector in zip(sentences, vectors, strict=True)
            ),
            key=lambda pair: -pair[0],
        )
        close = [pair for pair in scored if pair[0] >= self._section.min_similarity]
        best = [sentence for _, sentence in close[: self._section.max_sentences]]
        if not best:
            return NOTHING_RELEVANT
        return "\n".join(f"“{sentence.text}” [{sentence.source.number}]" for sentence in best)


def _sentences(sources: Sequence[Source]) -> list[_Sentence]:
    """Split contexts into sentences and stand-alone lines, each once, the best source's first."""
    found: dict[str, _Sentence] = {}
    split = split_by_sentence_tokenizer()
    for source in reversed(sources):
        for block in _blocks(source.text):
            pieces = [block] if _BLOCK_LINE.match(block) else split(block)
            for piece in pieces:
                text = " ".join(piece.split())
                if text and not _NO_ANSWER.match(text):
                    found.setdefault(text, _Sentence(text, source))
    return list(found.values())


def _blocks(text: str) -> list[str]:
    """Join wrapped lines of a paragraph; leave lines that stand alone as they are."""
    blocks: list[str] = []
    in_paragraph = False
    for line in text.splitlines():
        alone = bool(_BLOCK_LINE.match(line))
        if line.strip() and in_paragraph and not alone:
            blocks[-1] += f" {line.strip()}"
        elif line.strip():
            blocks.append(line.strip())
        in_paragraph = bool(line.strip()) and not alone
    return blocks
