"""What is known when the contexts are there → the features that tell whether they hold an answer.

All are there anyway, or cost less than a millisecond: no model is asked. Each is about 0 for what
has nothing to do with the question, whatever the collection, the embedding model and the language.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

from rag_app.search.evidence import AskedWord, Evidence
from rag_app.search.terms import TermAnalyzer

KEPT_TEXTS = 4096

FEATURES: Mapping[str, str] = {
    "near": "how near the best passage's vector is",
    "above_usual": "how much nearer it is than unrelated ones'",
    "near_gap": "how much nearer the best passage's vector is than the next ones'",
    "worded_gap": "how much better the best passage is by words than the next ones",
    "shared": "how many passages both searches found",
    "covered": "share of the question's words, rare ones first, in the best passage",
    "covered_all": "the same, in all passages together",
    "covered_sentence": "the same, in the best sentence",
    "missing": "how rare the rarest word is that no passage has",
    "length": "how many words the question has",
    "reranked": "the reranker's best score",
}
"""In words for `rag-app query --explain`."""


def features_of(evidence: Evidence, passages: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the features that are known, by the names of `FEATURES`.

    Parameters
    ----------
    passages
        What each context stands under (its document's title, the headings above it), and its text.
    """
    found: dict[str, float] = {}
    if evidence.near:
        found["near"] = evidence.near[0]
        found["above_usual"] = evidence.near[0] - evidence.usual
        found["near_gap"] = _gap(evidence.near)
    if len(evidence.worded) > 1:
        found["worded_gap"] = _gap(evidence.worded) / max(evidence.worded[0], 1e-6)
    if evidence.shared is not None:
        found["shared"] = evidence.shared
    words = evidence.words
    total = sum(word.weight for word in words)
    language = evidence.language
    terms, sentences = [], []
    for above, text in passages:
        # As a reader knows what a page is about: its sentences need not say so again.
        known = _terms(language, above)
        terms.append(known | _terms(language, text))
        sentences += [known | each for each in _sentence_terms(language, text)]
    everything = frozenset().union(*terms)
    found["covered"] = max((_share(words, total, each) for each in terms), default=0.0)
    found["covered_all"] = _share(words, total, everything)
    found["covered_sentence"] = max((_share(words, total, each) for each in sentences), default=0.0)
    found["missing"] = max((w.weight for w in words if w.terms.isdisjoint(everything)), default=0.0)
    found["length"] = math.log1p(len(words))
    if evidence.reranked:
        found["reranked"] = evidence.reranked[0]
    return found


def _gap(scores: Sequence[float]) -> float:
    """Return how far the best is above the mean of the second to the fifth."""
    others = scores[1:5]
    return scores[0] - sum(others) / len(others) if others else 0.0


def _share(words: Sequence[AskedWord], total: float, terms: frozenset[str]) -> float:
    if not total:
        return 0.0
    return sum(word.weight for word in words if not word.terms.isdisjoint(terms)) / total


@cache
def _analyzer(language: str) -> TermAnalyzer:
    return TermAnalyzer(language)


# Contexts come again with other questions.
@lru_cache(KEPT_TEXTS)
def _terms(language: str, text: str) -> frozenset[str]:
    return frozenset(_analyzer(language)(text).split())


@lru_cache(KEPT_TEXTS)
def _sentence_terms(language: str, text: str) -> tuple[frozenset[str], ...]:
    return tuple(_terms(language, each) for each in split_by_sentence_tokenizer()(text))
