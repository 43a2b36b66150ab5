"""How much each quotable thing says to a question: by its words, and by its context's score.

The figures are log-odds: they were fitted, as a choice of one among all (a softmax), to the quotes
that hold the gold answers of labelled sets in five languages, on halves of their documents, and
rounded (docs/answers.md).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag_app.answering.answer_types import wanted
from rag_app.answering.quotable import Quotable
from rag_app.schema import Source
from rag_app.search.terms import TermAnalyzer

TEXT_SHARE = 3.0
"""Of a quotation that has all of the question's words, weighed by their rarity."""
HEADING_SHARE = 2.0
"""Of one that has them together with its heading."""
MEANING = 4.0
"""Of a cosine of 1."""
LOWER_SCORE = 4.0
"""What a context costs whose score is 0, where the best one's is 1."""
LOWER_RANK = 0.15
"""What each rank costs besides."""
NO_SUCH_THING = 1.8
"""What it costs to have no date where one is asked for, and so on (`answer_types`)."""
LENGTH = 0.3
"""Of each 100 characters, up to `LONGEST`: more is more likely to hold the answer."""
LONGEST = 400


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something quotable, with its own terms and those of the heading above it.

    Attributes
    ----------
    rank
        Of its context, 0 for the best.
    behind
        How far its context's score is behind the best one's, as a share of that.
    place
        Its number in the context.
    """

    quotable: Quotable
    terms: frozenset[str]
    heading_terms: frozenset[str]
    source: Source
    rank: int
    behind: float
    place: int

    @property
    def said(self) -> str:
        """All that is said here."""
        quotable = self.quotable
        return f"{quotable.lead} {quotable.text}{quotable.block}".strip()

    @property
    def read(self) -> str:
        """What is embedded: the text behind its heading."""
        return f"{self.quotable.heading}: {self.said}"


class Asked:
    """A question, or a part of one, as the words of candidates are compared with it.

    Parameters
    ----------
    candidates
        All of them: words that few of them have weigh more (IDF).
    """

    def __init__(self, question: str, analyze: TermAnalyzer, candidates: Sequence[Candidate]):
        terms = set(analyze.of_question(question).split())
        counts = Counter(
            term for each in candidates for term in (each.terms | each.heading_terms) & terms
        )
        number = len(candidates)
        self.weights = {
            term: math.log(1 + (number + 0.5) / (counts[term] + 0.5))
            for term in terms
            if counts[term]
        }
        self._found = sum(self.weights.values())
        # Stems that no candidate has: of words that are missing here, or of other languages.
        self._missing = (len(terms) - len(self.weights)) * math.log(1 + (number + 0.5) / 0.5)
        self.wanted = wanted(question)

    def share(self, terms: frozenset[str]) -> float:
        """Return the share of the question's words, of those that stand in any candidate."""
        return self._weigh(terms) / (self._found or 1.0)

    def share_of_all(self, candidate: Candidate) -> float:
        """Return the share of all of its words that stand in a candidate."""
        return self._weigh(candidate.terms) / ((self._found + self._missing) or 1.0)

    def evidence(self, candidate: Candidate) -> float:
        """Return what the candidate's words and its context's score say, without its meaning."""
        lacks = self.wanted is not None and not self.wanted.search(candidate.said)
        return (
            TEXT_SHARE * self.share(candidate.terms)
            + HEADING_SHARE * self.share(candidate.terms | candidate.heading_terms)
            + LENGTH * min(len(candidate.said), LONGEST) / 100
            - LOWER_SCORE * candidate.behind
            - LOWER_RANK * candidate.rank
            - NO_SUCH_THING * lacks
        )

    def _weigh(self, terms: frozenset[str]) -> float:
        return sum(self.weights[term] for term in terms & self.weights.keys())
