"""What the searches tell of a question, besides which rows they found: how sure they are of them.

Scores alone do not tell: a cosine of .5 is much with one model and little with another, and a BM25
score grows with the question. So a vector's nearness is told in the collection's own measure, how
near its rows are to each other, and each word of the question by how rare it is there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llama_index.core.schema import NodeWithScore
from pydantic import Field

from rag_app.search.background import Sample
from rag_app.search.fusion import Background
from rag_app.search.modes import Asked, Hit, Searchable
from rag_app.search.terms import TermAnalyzer

LOOKED_AT = 10
"""Hits of each search whose scores are kept."""

ENOUGH = 16
"""Rows from which on they tell how near unrelated ones are: of fewer, the best is one in a few."""


@dataclass(frozen=True)
class AskedWord:
    """A word of the question.

    Attributes
    ----------
    terms
        That stand for it, one of which a text has to have (`TermAnalyzer.alternatives`).
    weight
        How rare it is in the collection: its IDF, in nats.
    """

    terms: frozenset[str]
    weight: float


@dataclass(frozen=True)
class Evidence:
    """What the searches tell of one question.

    Attributes
    ----------
    near
        Of the nearest rows, best first: how many standard deviations nearer to the question than
        two rows taken at random are to each other; empty where no vectors were searched, or too few
        rows are there to tell.
    usual
        The same of a row taken at random.
    worded
        The BM25 scores of the best rows by words; empty where no words were searched.
    shared
        Share of the best rows by vectors that are among the best by words; None where one search
        alone was asked.
    words
        Of the question, in order.
    language
        Of `TermAnalyzer`, that the words were told by.
    reranked
        The reranker's scores, best first; empty without one.
    """

    near: tuple[float, ...] = ()
    usual: float = 0.0
    worded: tuple[float, ...] = ()
    shared: float | None = None
    words: tuple[AskedWord, ...] = ()
    language: str = "auto"
    reranked: tuple[float, ...] = ()


class FoundNode(NodeWithScore):
    """A node with what was found out about its question, the same for all of its nodes."""

    evidence: Evidence = Field(default_factory=Evidence, exclude=True)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "FoundNode"


def with_evidence(nodes: Sequence[NodeWithScore], evidence: Evidence) -> list[NodeWithScore]:
    """Return the nodes with this evidence."""
    return [FoundNode(node=each.node, score=each.score, evidence=evidence) for each in nodes]


def evidence_of(nodes: Sequence[NodeWithScore]) -> Evidence | None:
    """Return the evidence that came with nodes; None: they come from elsewhere."""
    return next((each.evidence for each in nodes if isinstance(each, FoundNode)), None)


class Watched:
    """A `Searchable` that notes what the searches of a mode find in another one."""

    def __init__(self, rows: Searchable) -> None:
        self._rows = rows
        self.near: list[list[Hit]] = []
        self.worded: list[list[Hit]] = []

    def search_vectors(
        self, asked: Asked, limit: int, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        """Search by nearness."""
        self.near = self._rows.search_vectors(asked, limit, with_vectors=with_vectors)
        return self.near

    def search_words(self, asked: Asked, limit: int) -> list[list[Hit]]:
        """Search by words."""
        self.worded = self._rows.search_words(asked, limit)
        return self.worded

    def backgrounds(self, asked: Asked) -> list[Background]:
        """Tell for each question how near its vector is to rows taken at random."""
        return self._rows.backgrounds(asked)


def tell(asked: Asked, watched: Watched, sample: Sample, language: str) -> list[Evidence]:
    """Return the evidence of each question.

    Parameters
    ----------
    watched
        After the mode has searched.
    language
        Of `TermAnalyzer`.
    """
    rows = sample.terms
    analyzer = _analyzer(language)
    pairs = sample.pairs
    tells = pairs.deviation > 0 and len(rows) >= ENOUGH
    usual = watched.backgrounds(asked) if watched.near and tells else []
    found = []
    for at, question in enumerate(asked.questions):
        near = watched.near[at] if watched.near else []
        worded = watched.worded[at] if watched.worded else []
        found.append(
            Evidence(
                near=_deviations([hit.score for hit in near], pairs) if usual else (),
                usual=_deviations([usual[at].mean], pairs)[0] if usual else 0.0,
                worded=tuple(hit.score for hit in worded[:LOOKED_AT]),
                shared=_shared(near, worded) if watched.near and watched.worded else None,
                words=_weigh(analyzer.alternatives(question), rows),
                language=language,
            )
        )
    return found


def _deviations(scores: Sequence[float], pairs: Background) -> tuple[float, ...]:
    return tuple((score - pairs.mean) / pairs.deviation for score in scores[:LOOKED_AT])


def _shared(near: Sequence[Hit], worded: Sequence[Hit]) -> float:
    best = {hit.id for hit in near[:LOOKED_AT]}
    both = best & {hit.id for hit in worded[:LOOKED_AT]}
    return len(both) / len(best) if best else 0.0


def _weigh(
    words: Sequence[frozenset[str]], rows: Sequence[frozenset[str]]
) -> tuple[AskedWord, ...]:
    weighed = []
    for terms in words:
        holding = sum(not terms.isdisjoint(row) for row in rows)
        idf = math.log(1 + (len(rows) - holding + 0.5) / (holding + 0.5))
        weighed.append(AskedWord(terms, idf))
    return tuple(weighed)


@cache
def _analyzer(language: str) -> TermAnalyzer:
    return TermAnalyzer(language)
