"""Each sentence of an answer, held against the passages that it cites.

A sentence is aligned with the part of a cited passage that has most of its words: a sentence there,
the one before it, and the headings above. What it says beyond that part counts against it: words by
their share, a number or a name that is not there by a mark, and so does a "not" on one side only.
The embedder's cosine of the two adds what words don't show; a cross-encoder for natural language
inference decides instead, where one is configured.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer

from rag_app.answering.abstaining import abstains
from rag_app.answering.citations import CITATION, cited_places
from rag_app.schema import SentenceSupport, Source
from rag_app.search.terms import TermAnalyzer

SUPPORTED = 0.55
"""Score from which on a sentence counts as supported (docs/answers.md has what other ones do)."""
MEANING = 0.25
"""Of the cosine in a score; the rest is the words'."""
ENTAILED = 0.5
"""Probability from which on an inference model's word is taken for support."""
MARKED = 0.4
"""What a score is multiplied with for each mark."""
UNSUPPORTED = "unsupported"

Infer = Callable[[str, str], float]
"""A passage, a sentence → the probability that the one entails the other."""

_LEADING_CITATION = re.compile(r"\s*" + CITATION.pattern + r"[.,;:]?")
_NUMBER = re.compile(r"\d[\d.,\u202f\u00a0]*\d|\d")
_SPELLED = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_WORD = re.compile(r"[^\W\d_](?:[\w'\u2019-]*\w)?")
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|neither|nor|without|cannot|\w+n['\u2019]t"
    r"|nicht|kein\w*|nie|niemals|ohne|ne|pas|jamais|sans|nunca|sin|\u043d\u0435|\u043d\u0435\u0442|\u0431\u0435\u0437)\b"
    r"|[\u4e0d\u6ca1\u65e0\u672a]",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:it|its|he|she|his|her|hers|they|their|them|him|this|these|those|that|such"
    r"|er|sie|es|ihr|sein|dies\w*|il|elle|ils|elles|él|ella|\u043e\u043d|\u043e\u043d\u0430|\u043e\u043d\u0438)\b|[\u4ed6\u5979\u5b83\u6b64]",
    re.IGNORECASE,
)
_REACH = 3
"""Content words behind a negation that it negates."""


@dataclass(frozen=True)
class _Part:
    """A part of a passage that a sentence may be aligned with."""

    text: str
    sentence: str
    above: str
    terms: frozenset[str]

    @property
    def names(self) -> set[str]:
        """Words that a name may be: of the sentence before, where this one may speak of it."""
        text = self.text if _PRONOUN.search(self.sentence) else f"{self.above} {self.sentence}"
        return {word.casefold() for word in _WORD.findall(text)}


class SupportChecker:
    """Tells how far the contexts bear out an answer.

    Parameters
    ----------
    language
        Of `TermAnalyzer`.
    embedder
        None: words alone.
    infer
        Of an inference model; None: words and embedder alone.
    """

    def __init__(
        self, language: str, embedder: BaseEmbedding | None = None, infer: Infer | None = None
    ) -> None:
        self._terms = TermAnalyzer(language)
        self._embedder = embedder
        self._infer = infer

    def check(
        self, answer: str, sources: Sequence[Source], question: str = ""
    ) -> list[SentenceSupport]:
        """Check every sentence of an answer, in its order.

        What the question says already, an answer may say again. A sentence that cites nothing is
        held against all contexts. One that says that there is no answer claims nothing, and is left
        out.
        """
        return [
            self.check_sentence(answer, span, sources, question)
            for span in sentence_spans(answer)
            if not abstains(answer[slice(*span)])
        ]

    def check_sentence(
        self, answer: str, span: tuple[int, int], sources: Sequence[Source], question: str = ""
    ) -> SentenceSupport:
        """Check one sentence, which stands at `span` in the answer."""
        whole = answer[slice(*span)]
        numbers = tuple(
            dict.fromkeys(number for *_, cited in cited_places(whole) for number in cited)
        )
        cited = [source for source in sources if source.number in numbers]
        said = _without_citations(whole)
        # A number that no context has cites nothing.
        best, part = self._align(said, cited if numbers else sources)
        marks = self._marks(said, part, question) if part else []
        score = best
        if part and self._infer is not None:
            score = self._infer(part.text, said)
            bound = ENTAILED
        else:
            score *= MARKED ** len(marks)
            bound = SUPPORTED
        if score < bound or not part:
            marks.insert(0, UNSUPPORTED)
        return SentenceSupport(*span, numbers, round(float(score), 3), tuple(marks))

    def _align(self, said: str, sources: Sequence[Source]) -> tuple[float, _Part | None]:
        """Return the part with most of what is said, and its score; of several sources, joined."""
        wanted = self._weights(said)
        chosen: list[_Part] = []
        for source in sources:
            parts = self._parts(source)
            if parts:
                chosen.append(max(parts, key=lambda part: _covered(wanted, part.terms)))
        if not chosen:
            return 0.0, None
        chosen.sort(key=lambda part: -_covered(wanted, part.terms))
        joined = chosen[0]
        for part in chosen[1:]:
            # Another source is drawn in only for what the first ones do not say.
            if _covered(wanted, joined.terms | part.terms) > _covered(wanted, joined.terms):
                joined = _Part(
                    f"{joined.text}\n{part.text}",
                    f"{joined.sentence}\n{part.sentence}",
                    f"{joined.above}\n{part.above}",
                    joined.terms | part.terms,
                )
        covered = _covered(wanted, joined.terms)
        if self._embedder is None:
            return covered, joined
        vectors = self._embedder.get_text_embedding_batch([said, joined.sentence])
        near = _cosine(*vectors)
        return (1 - MEANING) * covered + MEANING * max(0.0, near), joined

    def _parts(self, source: Source) -> list[_Part]:
        sentences = [
            " ".join(piece.split())
            for line in source.text.splitlines()
            for piece in split_by_sentence_tokenizer()(line)
            if piece.strip()
        ]
        parts = []
        for at, sentence in enumerate(sentences):
            before = sentences[at - 1] if at else ""
            text = " ".join(filter(None, (source.name, before, sentence)))
            parts.append(_Part(text, sentence, source.name, frozenset(self._weights(text))))
        return parts

    def _weights(self, text: str) -> dict[str, float]:
        """Return what is said: terms, and numbers, which weigh double."""
        weights = dict.fromkeys(self._terms(text).split(), 1.0)
        for term in [term for term in weights if term.isdigit()]:
            del weights[term]
        return weights | dict.fromkeys(_numbers(text), 2.0)

    def _marks(self, said: str, part: _Part, question: str) -> list[str]:
        marks = []
        known = {word.casefold() for word in _WORD.findall(question)}
        if _numbers(said) - _numbers(part.text):
            marks.append("number")
        if self._names(said) - part.names - known:
            marks.append("name")
        if (self._negated(said) ^ self._negated(part.sentence)) & self._shared(said, part):
            marks.append("negation")
        return marks

    def _names(self, said: str) -> set[str]:
        """Return words with a capital letter, but for a sentence's first ones that need it."""
        names = set()
        for match in _WORD.finditer(said):
            word = match[0]
            begins = not said[: match.start()].strip("\"'\u201c\u201d\u2018\u2019([*_ ")
            if word[0].isupper() and self._terms(word):
                if begins and word[1:].islower() and not self._goes_on_as_name(said, match.end()):
                    continue
                names.add(word.casefold())
        return names

    @staticmethod
    def _goes_on_as_name(said: str, end: int) -> bool:
        following = _WORD.search(said, end)
        return following is not None and following[0][0].isupper()

    def _shared(self, said: str, part: _Part) -> set[str]:
        return set(self._terms(said).split()) & set(self._terms(part.sentence).split())

    def _negated(self, text: str) -> set[str]:
        """Return the terms that stand behind a negation."""
        negated: set[str] = set()
        for match in _NEGATION.finditer(text):
            negated.update(self._terms(text[match.end() :]).split()[:_REACH])
        return negated


def sentence_spans(answer: str) -> list[tuple[int, int]]:
    """Return where each sentence begins and ends; a citation behind its full stop belongs to it."""
    spans: list[tuple[int, int]] = []
    at = 0
    for line in answer.splitlines(keepends=True):
        for piece in split_by_sentence_tokenizer()(line):
            begin = answer.find(piece, at)
            end = begin + len(piece)
            at = end
            leading = _LEADING_CITATION.match(piece)
            if leading and spans and not answer[spans[-1][1] : begin].strip():
                spans[-1] = (spans[-1][0], begin + leading.end())
                begin += leading.end()
            begin += len(answer[begin:end]) - len(answer[begin:end].lstrip())
            end = begin + len(answer[begin:end].rstrip())
            if any(character.isalnum() for character in answer[begin:end]):
                spans.append((begin, end))
    return spans


def _without_citations(text: str) -> str:
    return " ".join(CITATION.sub(" ", text).split())


def _numbers(text: str) -> set[str]:
    found = {re.sub(r"(?<=\d)[,\u202f\u00a0](?=\d{3})", "", n) for n in _NUMBER.findall(text)}
    return found | {_SPELLED[word] for word in text.casefold().split() if word in _SPELLED}


def _covered(wanted: dict[str, float], terms: frozenset[str]) -> float:
    total = sum(wanted.values())
    return sum(weight for term, weight in wanted.items() if term in terms) / total if total else 0.5


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    a, b = np.asarray(one, np.float32), np.asarray(other, np.float32)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))
