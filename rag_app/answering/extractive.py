"""Answers without a model: what in the contexts answers the question, quoted."""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from numpy.typing import NDArray

from rag_app.answering.evidence import MEANING, Asked, Candidate
from rag_app.answering.quotable import Quotable, split_quotable
from rag_app.answering.quoting import Weigh, shown, write
from rag_app.config.sections import ExtractiveSection
from rag_app.retrieval.decompose import split_question
from rag_app.schema import HEADING_SEPARATOR, Source
from rag_app.search.terms import TermAnalyzer

NOTHING_RELEVANT = "The documents do not answer this."

CANDIDATES = 5
"""Of how many quotations vectors are compared; embedding takes the time, and between 6 and 12 there
was no difference (docs/answers.md)."""
WORTH = 0.00045
"""Probability of holding the answer that a character must bring, for more than one quotation: so
an answer has 350 characters on average, fewer where one quotation is certain."""
MOST = 900
"""Characters of all quotations together."""
ENOUGH_WORDS = 1 / 3
"""Share of the question's words with which a quotation is relevant, whatever its vector says: an
embedder may not know the language."""
READ = 400
"""Characters of a quotation that are embedded."""
KEPT_VECTORS = 8192
"""Sentences whose vectors are kept: 13 MB at 384 dimensions."""
KEPT_CONTEXTS = 1024

_PUNCTUATION = " \t\n?!.…？！。؟"  # noqa: RUF001 - full-width and Arabic
_ASKED = r"[\s\"'`”’»)\]]*[?？؟]"  # noqa: RUF001

Vector = NDArray[np.float32]
Scored = tuple[float, Candidate]


class Extractor:
    """Quotes sentences, rows and code blocks, with the number of their context.

    They are chosen by words and meaning together, and by how far the retrieval trusts their
    context: `rag_app.answering.evidence`. Candidates are those with the most evidence of words;
    the cosine of the vectors of the question and of the quotation behind its heading ("HNSW: M is
    the …") is added for these alone. Safe for threads; vectors of sentences that come again are
    kept.

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
        """Return at most `max_sentences` quotations, or `NOTHING_RELEVANT`.

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
        meant = np.asarray(
            self._embedder.get_query_embedding(question) if vector is None else vector, np.float32
        )
        parts = split_question(question)
        chosen: list[Candidate] = []
        weights: dict[str, float] = {}

        def weigh(word: str) -> float:
            return sum(weights.get(term, 0.0) for term in self._terms.of_question(word).split())

        # Each part of a question has its own quotations, and its share of the answer's length.
        most = max(1, self._section.max_sentences // len(parts))
        for part in parts:
            left = [each for each in candidates if each not in chosen]
            asked = Asked(part, self._terms, left)
            weights |= asked.weights
            if relevant := self._most_relevant(meant, asked, left):
                chosen += _worth_quoting(relevant, weigh, most, WORTH * len(parts))
        return write(chosen, weigh) if chosen else NOTHING_RELEVANT

    def _most_relevant(
        self, meant: Vector, asked: Asked, candidates: Sequence[Candidate]
    ) -> list[Scored]:
        """Return those of the best candidates that are relevant, best first."""
        said = [asked.evidence(each) for each in candidates]
        # Stable: of equals the one from the better context comes first.
        order = np.argsort([-each for each in said], kind="stable")
        # All that is not among them is looked at before it is said that nothing is relevant.
        for some in (order[:CANDIDATES], order[CANDIDATES:]):
            relevant = self._relevant(meant, asked, [(said[at], candidates[at]) for at in some])
            if relevant:
                return relevant
        return []

    def _candidates(self, question: str, sources: Sequence[Source]) -> list[Candidate]:
        """Collect what can be quoted, each text once, the best context's first."""
        repeats = _repeats(question)
        best = max((source.score or 0.0 for source in sources), default=0.0)
        found: dict[str, Candidate] = {}
        for rank, source in enumerate(reversed(sources)):
            heading = source.headings.rsplit(HEADING_SEPARATOR, 1)[-1] or source.title
            # Of distances, which are below 0, the same shares come out.
            behind = (best - (source.score or 0.0)) / abs(best) if best else 0.0
            for place, each in enumerate(self._split(source.text, heading, source.type)):
                candidate = Candidate(*each, source, rank, behind, place)
                if not repeats.search(candidate.said):
                    found.setdefault(candidate.said, candidate)
        return list(found.values())

    def _split_context(
        self, text: str, heading: str, kind: str
    ) -> list[tuple[Quotable, frozenset[str], frozenset[str]]]:
        # A sentence alone may be too short to tell its language.
        languages = self._terms.languages_of(text)

        def terms(of: str) -> frozenset[str]:
            return frozenset(self._terms(of, languages).split())

        return [
            (each, terms(f"{each.lead} {each.text}{each.block}"), terms(each.heading))
            for each in split_quotable(text, heading, kind)
        ]

    def _relevant(self, meant: Vector, asked: Asked, some: Sequence[Scored]) -> list[Scored]:
        """Add the evidence of meaning; return those that are relevant, best first."""
        scored = []
        vectors = self._vectors.of([each.read[:READ] for _, each in some])
        for (said, each), vector in zip(some, vectors, strict=True):
            cosine = _cosine(meant, vector)
            if cosine >= self._section.min_similarity or asked.share_of_all(each) >= ENOUGH_WORDS:
                scored.append((said + MEANING * cosine, each))
        return sorted(scored, key=lambda pair: -pair[0])


def _worth_quoting(
    relevant: Sequence[Scored], weigh: Weigh, most: int, worth: float
) -> list[Candidate]:
    """Choose those that are probable enough to hold the answer for their length."""
    best = relevant[0][0]
    odds = [math.exp(score - best) for score, _ in relevant]
    chosen: list[Candidate] = []
    texts: list[str] = []
    for (_, each), odd in zip(relevant, odds, strict=True):
        text = shown(each, weigh)
        length = sum(map(len, texts)) + len(text)
        is_worth_it = odd / sum(odds) >= worth * len(text) and length <= MOST
        # Contexts overlap: the same words may come again, cut off elsewhere.
        is_new = not any(text in other or other in text for other in texts)
        if is_new and (is_worth_it or not chosen):
            chosen.append(each)
            texts.append(text)
        if len(chosen) == most:
            break
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
