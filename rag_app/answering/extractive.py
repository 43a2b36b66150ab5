"""Answers without a model: what in the contexts is closest to the question, quoted."""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from rag_app.answering.quotable import Quotable, split_quotable
from rag_app.config.sections import ExtractiveSection
from rag_app.schema import Source
from rag_app.search.terms import TermAnalyzer

NOTHING_RELEVANT = "Nothing relevant to this question was found in the documents."

CANDIDATES = 8
"""Of how many sentences vectors are compared; embedding takes the time, and 12 found no more
(docs/retrieval.md)."""
WORDS_WEIGHT = 0.5
"""Of the share of the question's words in a sentence, beside its cosine (docs/retrieval.md)."""
RANK_WEIGHT = 0.02
"""What each rank of its context costs a sentence."""
KEPT_VECTORS = 8192
"""Sentences whose vectors are kept: 13 MB at 384 dimensions."""
KEPT_CONTEXTS = 1024

_PUNCTUATION = " \t\n?!.…？！。؟"  # noqa: RUF001 - full-width and Arabic
_ASKED = r"[\s\"'`”’»)\]]*[?？؟]"  # noqa: RUF001

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class _Candidate:
    """Something quotable, with its own terms and those of the heading above it."""

    quotable: Quotable
    terms: frozenset[str]
    source: Source
    rank: int

    @property
    def read(self) -> str:
        """What is embedded: the text behind its heading."""
        return f"{self.quotable.heading}: {self.quotable.text}"


class Extractor:
    """Quotes sentences, rows and code blocks: verbatim, with the number of their context.

    Candidates are chosen by the question's words and their context's rank, and ordered by these and
    by closeness: the cosine of the vectors of the question and of the sentence behind its heading
    ("HNSW: M is the …"). Safe for threads; vectors of sentences that come again are kept.

    Parameters
    ----------
    section
        The configuration's ``[llm.extractive]``.
    embedder
        The collection's own embedding model.
    language
        Of `TermAnalyzer`: what words are the same.
    """

    def __init__(self, section: ExtractiveSection, embedder: BaseEmbedding, language: str) -> None:
        self._section = section
        self._embedder = embedder
        self._terms = TermAnalyzer(language)
        self._vectors = _Vectors(embedder)
        # Contexts come again with other questions.
        self._split = lru_cache(KEPT_CONTEXTS)(self._split_context)

    def answer(
        self, question: str, sources: Sequence[Source], vector: Sequence[float] | None = None
    ) -> str:
        """Return at most `max_sentences` quotations, best first, or `NOTHING_RELEVANT`.

        Parameters
        ----------
        sources
            In prompt order: best last.
        vector
            The question's, where it is known already.
        """
        candidates = self._candidates(question, sources)
        if not candidates:
            return NOTHING_RELEVANT
        asked = np.asarray(
            self._embedder.get_query_embedding(question) if vector is None else vector, np.float32
        )
        shares = self._shares(question, candidates)
        # Stable: of equals the one from the better context comes first.
        order = np.argsort(
            [
                RANK_WEIGHT * each.rank - WORDS_WEIGHT * share
                for each, share in zip(candidates, shares, strict=True)
            ],
            kind="stable",
        )
        # All that is not among them is looked at before it is said that nothing is relevant.
        for some in (order[:CANDIDATES], order[CANDIDATES:]):
            chosen = self._choose(asked, [(candidates[at], shares[at]) for at in some])
            if chosen:
                return "\n".join(map(_quoted, chosen))
        return NOTHING_RELEVANT

    def _candidates(self, question: str, sources: Sequence[Source]) -> list[_Candidate]:
        """Collect what can be quoted, each text once, the best context's first."""
        repeats = _repeats(question)
        found: dict[str, _Candidate] = {}
        for rank, source in enumerate(reversed(sources)):
            for quotable, terms in self._split(source.text, source.title, source.type):
                if not repeats.search(quotable.text):
                    found.setdefault(quotable.text, _Candidate(quotable, terms, source, rank))
        return list(found.values())

    def _split_context(
        self, text: str, title: str, kind: str
    ) -> list[tuple[Quotable, frozenset[str]]]:
        return [
            (each, frozenset(self._terms(f"{each.heading} {each.text}").split()))
            for each in split_quotable(text, title, kind)
        ]

    def _shares(self, question: str, candidates: Sequence[_Candidate]) -> list[float]:
        """Return each candidate's share of the question's words; rare ones weigh more (IDF)."""
        asked = set(self._terms(question).split())
        counts = Counter(term for each in candidates for term in each.terms & asked)
        weights = {
            term: math.log(1 + (len(candidates) + 0.5) / (counts[term] + 0.5)) for term in asked
        }
        total = sum(weights.values()) or 1.0
        return [sum(weights[term] for term in each.terms & asked) / total for each in candidates]

    def _choose(self, asked: Vector, some: Sequence[tuple[_Candidate, float]]) -> list[_Candidate]:
        scored = []
        vectors = self._vectors.of([each.read for each, _ in some])
        for (each, share), vector in zip(some, vectors, strict=True):
            cosine = _cosine(asked, vector)
            if cosine >= self._section.min_similarity:
                scored.append((cosine + WORDS_WEIGHT * share - RANK_WEIGHT * each.rank, each))
        scored.sort(key=lambda pair: -pair[0])
        chosen: list[_Candidate] = []
        for _, each in scored:
            text = each.quotable.text
            # Contexts overlap: the same words may come again, cut off elsewhere.
            if len(chosen) < self._section.max_sentences and not any(
                text in other.quotable.text or other.quotable.text in text for other in chosen
            ):
                chosen.append(each)
        return chosen


class _Vectors:
    """Sentences → vectors; the least recently used ones are forgotten."""

    def __init__(self, embedder: BaseEmbedding) -> None:
        self._embedder = embedder
        self._kept: OrderedDict[str, Vector] = OrderedDict()
        self._lock = Lock()

    def of(self, texts: Sequence[str]) -> list[Vector]:
        with self._lock:
            known = {text: self._kept[text] for text in texts if text in self._kept}
        new = [text for text in texts if text not in known]
        # Outside of the lock, as it takes long; two that embed the same text do no harm.
        if new:
            vectors = self._embedder.get_text_embedding_batch(new)
            known |= {t: np.asarray(v, np.float32) for t, v in zip(new, vectors, strict=True)}
        with self._lock:
            for text in texts:
                self._kept[text] = known[text]
                self._kept.move_to_end(text)
            while len(self._kept) > KEPT_VECTORS:
                self._kept.popitem(last=False)
        # Of what was found, not of what is kept: that may be forgotten again by now.
        return [known[text] for text in texts]


def _repeats(question: str) -> re.Pattern[str]:
    """Find the question where it is asked: a page that asks it is closest to it, and no answer."""
    words = question.strip(_PUNCTUATION).split()
    return re.compile(r"\s+".join(map(re.escape, words)) + _ASKED, re.IGNORECASE)


def _cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) or 1.0))


def _quoted(candidate: _Candidate) -> str:
    text, number = candidate.quotable.text, candidate.source.number
    # A fence ends alone on its line.
    return f"{text}\n[{number}]" if candidate.quotable.is_fenced else f"“{text}” [{number}]"
