"""What counts as a hit: whether a node's text answers a question, as far as the question tells.

White space and case are folded. By what the question has, the first of these decides:

1. ``gold``: the node is of a named file and holds one of that file's keywords.
2. a paragraph or contexts: the node holds an answer together with `BESIDE` characters of the
   passage right before or after it, so that the same words elsewhere are no hit. Where no answer
   stands in the passage, it holds half of the passage's sentences.
3. ``answers`` alone: the node holds one of them.
4. ``file`` alone: the node is of that file.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from rag_app.evaluation.questions import EvalQuestion
from rag_app.milvus.collection import CollectionStore

BESIDE = 40
"""Characters of the gold passage that must stand beside the answer."""

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s*")
_SHORTEST_SENTENCE = 20


def fold(text: str) -> str:
    """Fold white space and case."""
    return " ".join(text.split()).casefold()


class Relevance:
    """Tells whether a text answers a question."""

    def __init__(self, question: EvalQuestion) -> None:
        self._files = question.files
        self._gold = {
            file: [fold(keyword) for keyword in keywords]
            for file, keywords in (question.gold or {}).items()
        }
        self._answers = [fold(answer) for answer in question.answers or ()]
        passages = [fold(passage) for passage in question.contexts]
        self._needles = [n for p in passages for a in self._answers for n in _needles(p, a)]
        self._sentences = [] if self._needles else [_sentences(passage) for passage in passages]

    def is_hit(self, path: str, text: str) -> bool:
        """Tell whether a node of this document (its relative path), with this text, is a hit."""
        if self._files and not any(is_same_file(path, file) for file in self._files):
            return False
        folded = fold(text)
        if self._gold:
            return any(
                keyword in folded
                for file, keywords in self._gold.items()
                if is_same_file(path, file)
                for keyword in keywords
            )
        if self._needles:
            return any(needle in folded for needle in self._needles)
        if self._sentences:
            return any(
                2 * sum(sentence in folded for sentence in sentences) >= len(sentences)
                for sentences in self._sentences
            )
        return self.holds_answer(text) if self._answers else bool(self._files)

    def holds_answer(self, text: str) -> bool:
        """Tell whether an answer stands in a text, wherever the text comes from."""
        folded = fold(text)
        return any(answer in folded for answer in self._answers)

    def reach(self, found: Sequence[tuple[str, str]]) -> int | None:
        """Count the characters that must be read of ranked texts until they answer the question.

        Parameters
        ----------
        found
            Path and text of each node, best first.
        """
        read = 0
        for path, text in found:
            if self.is_hit(path, text):
                # A longer beginning holds whatever a shorter one does, so bisect.
                lengths = range(len(text) + 1)
                return read + bisect_left(
                    lengths, True, key=lambda length: self.is_hit(path, text[:length])
                )
            read += len(text)
        return None


def find_gold(
    store: CollectionStore, relevances: Mapping[str, Relevance], files: Mapping[str, Iterable[str]]
) -> dict[str, list[str]]:
    """Find the nodes of the whole collection that are hits: what recall is counted against.

    Parameters
    ----------
    relevances
        By the question's key.
    files
        The documents that may answer it, by the question's key; none: all of them.

    Returns
    -------
    dict
        Node ids by the question's key, in document order.
    """
    everywhere = [key for key in relevances if not files[key]]
    # Whatever folders a question names, the file's own name is the same: so each document is
    # compared with few questions.
    by_name: dict[str, list[str]] = defaultdict(list)
    for key in relevances:
        for name in {PurePosixPath(file).name for file in files[key]}:
            by_name[name].append(key)
    found: dict[str, list[str]] = {key: [] for key in relevances}
    for document in store.documents().values():
        keys = [*everywhere, *by_name[PurePosixPath(document.path).name]]
        # Documents that no question asks for are not read.
        for node in store.nodes_of(document.id) if keys else ():
            text = node.get_content()
            for key in keys:
                if relevances[key].is_hit(document.path, text):
                    found[key].append(node.node_id)
    return found


def is_same_file(path: str, file: str) -> bool:
    """Tell whether a document's path is the file that a question names, or ends in it."""
    return path == file or path.endswith(f"/{file}") or file.endswith(f"/{path}")


def _needles(passage: str, answer: str) -> list[str]:
    """Return the answer with what stands before and after it, wherever it is in the passage."""
    needles = []
    start = passage.find(answer)
    while start >= 0:
        end = start + len(answer)
        before, after = passage[max(0, start - BESIDE) : end], passage[start : end + BESIDE]
        whole = [each for each in (before, after) if len(each) == len(answer) + BESIDE]
        # A short passage has not as much on either side: then all that is there.
        needles += [n.strip() for n in whole or [passage[max(0, start - BESIDE) : end + BESIDE]]]
        start = passage.find(answer, start + 1)
    return needles


def _sentences(passage: str) -> list[str]:
    long = [part for part in _SENTENCE_END.split(passage) if len(part) >= _SHORTEST_SENTENCE]
    return long or [passage]
