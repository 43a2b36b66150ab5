"""Text without structure → pieces of at most a size, cut at the ends of sentences.

LlamaIndex's `SentenceSplitter` does it; what would take it long, or what it leaves too long, is cut
here.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence

from llama_index.core.node_parser import SentenceSplitter

from rag_app.config.sections import ChunkingSection

MAX_CHARACTERS = 16_000
"""Of a piece, whatever it counts in tokens (WordPiece takes a word of any length for one): a row of
Milvus holds 65,535 bytes of text, and a character has up to four."""

_LONG_RUN = re.compile(
    r"(?<![^\s,.;。？！])[^\s,.;。？！]{1000,}|(?<![^\w\s])[^\w\s]{1000,}"  # noqa: RUF001
)
"""What the splitter would take apart character by character: no space or mark to split at (its own
expression), or nothing but marks."""

Tokenize = Callable[[str], Sequence[object]]


class ProseSplitter:
    """Splits text into pieces that the embedder reads whole.

    Parameters
    ----------
    section
        The configuration's ``[chunking]``.
    tokenize
        The embedder's tokenizer, special tokens left out.
    reads
        How many such tokens the embedder reads.
    """

    def __init__(self, section: ChunkingSection, tokenize: Tokenize, reads: int) -> None:
        # Before the splitter, which would import all of it.
        _import_nltk()
        self._section = section
        self._tokenize = tokenize
        self._reads = reads
        self._splitter = _splitter(
            section.size, section.overlap, tokenize if section.unit == "tokens" else list
        )
        # An overlap that is counted in characters is no number of tokens.
        overlap = section.overlap if section.unit == "tokens" else 0
        self._shortener = _splitter(reads, min(overlap, reads - 1), tokenize)

    def split(self, text: str) -> Iterator[str]:
        """Yield pieces of the size that was asked for, which may still be too long to be read."""
        start = 0
        for run in _LONG_RUN.finditer(text):
            yield from self._splitter.split_text(text[start : run.start()])
            yield from self._cut(run[0])
            start = run.end()
        yield from self._splitter.split_text(text[start:])

    def shorten(self, text: str) -> list[str]:
        """Split a piece further that is longer than the embedder reads or Milvus keeps."""
        fits = len(self._tokenize(text)) <= self._reads
        return [
            piece[start : start + MAX_CHARACTERS]
            for piece in ([text] if fits else self._shortener.split_text(text))
            for start in range(0, len(piece), MAX_CHARACTERS)
        ]

    def _cut(self, run: str) -> Iterator[str]:
        """Cut what has nowhere to split into pieces of at most the size, without an overlap."""
        start = 0
        in_characters = self._section.unit == "characters"
        step = self._section.size if in_characters else MAX_CHARACTERS
        most = self._reads if in_characters else self._section.size
        while start < len(run):
            piece = run[start : start + step]
            if (tokens := len(self._tokenize(piece))) > most and step > 1:
                # At most half as long each time, so that it soon ends however
                # unevenly the tokens lie.
                step = max(min(step // 2, step * most // tokens), 1)
                continue
            yield piece
            start += step


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


def until_too_long(tokenize: Tokenize, size: int) -> Tokenize:
    """Let a whole document not be tokenized only to learn that it is longer than a node.

    Of a text that is much longer, the tokens of its beginning are returned.
    """
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
        tokenizer=until_too_long(tokenize, size),  # used for the length of what it gives
        # LlamaIndex's own default is three line breaks, which few texts have.
        paragraph_separator="\n\n",
    )
