"""Find the retrieval settings that do best on a user's own questions, and whether they do at all.

Cheap things first, by successive halving (Jamieson and Talwalkar, "Non-stochastic Best Arm
Identification", 2016): all settings are asked a few questions, the better half of them twice as
many, and so on; what costs more (a reranker, nodes of another size) is tried with the best of
these alone. The best of so many settings looks better than it is. So the whole search is done
again without a part of the documents, and what it chose is asked about these: only a gain that
remains there, beyond noise, is one.
"""

import random
import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_app.evaluation import bootstrap, significance
from rag_app.evaluation.bootstrap import Interval, Values
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.relevance import Relevance
from rag_app.schema import Record

FOLDS = 4
FEWEST = 12
"""Questions of the first round."""
FINALISTS = 4
"""Settings that are asked all questions."""

Overrides = Mapping[str, Any]
"""Values of dotted keys that differ from the configuration; empty: the configuration itself."""

Open = Callable[[Overrides], BaseRetriever]
"""Returns the retriever of a setting."""

Count = Callable[[str], int]
"""Counts a text's tokens."""


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes
    ----------
    quality
        The mean of two: whether the contexts hold the answer, and 1 / the rank of the first that
        does.
    tokens
        Of the contexts.
    ms
        Of the retrieval.
    """

    quality: float
    tokens: int
    ms: float


@dataclass(frozen=True)
class Trial(Record):
    """A setting that was asked all questions."""

    overrides: Overrides
    quality: Interval
    ms: float
    tokens: float


@dataclass(frozen=True)
class Tuned(Record):
    """What a search found.

    Attributes
    ----------
    best
        What did best on all questions; empty: the configuration itself.
    gain
        How much better, on documents that the search had not seen, what it chose without them is
        than the configuration.
    p
        Of so large a gain between equals.
    seen_gain
        How much better `best` is on the questions that it was chosen by: more than can be expected.
    expected
        The quality on new questions, and of the configuration on the same.
    trials
        The settings that were asked all questions, the best first.
    tried
        How many settings there were.
    """

    best: Overrides
    gain: Interval
    p: float
    seen_gain: float
    expected: Mapping[str, float]
    trials: tuple[Trial, ...]
    tried: int
    questions: int

    @property
    def is_gain(self) -> bool:
        """Whether it is beyond noise; else what is configured should stay."""
        return bool(self.best) and self.gain.value > 0 and self.p < significance.ALPHA

    def to_dict(self) -> dict[str, Any]:
        """Return the record with `is_gain`."""
        return {**super().to_dict(), "is_gain": self.is_gain}


def cheap_settings(top_k: int) -> list[dict[str, Any]]:
    """Return the settings that cost nothing to try.

    Parameters
    ----------
    top_k
        The configured ``retrieval.similarity_top_k``, about which others are tried.
    """
    ways: list[dict[str, Any]] = [{"retrieval.mode": "dense"}, {"retrieval.mode": "text"}]
    for candidates in (50, 100):
        both = {"retrieval.mode": "hybrid", "retrieval.candidates": candidates}
        ways.append({**both, "retrieval.fusion": "rrf", "retrieval.text_weight": 0.5})
        for weight in (0.3, 0.5, 0.7, 0.9):
            ways.append({**both, "retrieval.fusion": "weighted", "retrieval.text_weight": weight})
    return [
        {**way, "retrieval.expand": expand, "retrieval.similarity_top_k": number}
        for way in ways
        for expand in (0, 1)
        for number in sorted({max(1, top_k // 2), top_k, 2 * top_k})
    ]


@dataclass
class Search:
    """A search over settings; what was asked once is not asked again.

    Attributes
    ----------
    settings
        Tried first.
    dearer
        Tried on top of the best of these.
    most_ms
        Median milliseconds of a retrieval; None: any.
    most_tokens
        Of the contexts of a question: the worst are left out; None: as many as the configuration
        takes at most.
    """

    open: Open
    questions: Sequence[EvalQuestion]
    vectors: Mapping[str, Sequence[float]]
    count: Count
    settings: Sequence[Overrides]
    dearer: Sequence[Overrides] = ()
    most_ms: float | None = None
    most_tokens: int | None = None
    seed: int = 0
    progress: Callable[[int, int], None] = lambda _done, _total: None
    _asked: dict[tuple[str, str], Asked] = field(default_factory=dict)
    _retrievers: dict[str, BaseRetriever] = field(default_factory=dict)
    _relevances: dict[str, Relevance] = field(default_factory=dict)

    def run(self) -> Tuned:
        """Search, and tell what to expect of what was found."""
        if self.most_tokens is None:
            most = max((self._ask({}, each).tokens for each in self.questions), default=0)
            self.most_tokens = most
        unseen = np.zeros(len(self.questions))
        folds = self._folds()
        for fold in range(FOLDS):
            self.progress(fold, FOLDS + 1)
            training = [q for q, at in zip(self.questions, folds, strict=True) if at != fold]
            held_out = [at for at, of in enumerate(folds) if of == fold]
            if not training or not held_out:
                continue
            chosen = self._choose(training)
            for at in held_out:
                unseen[at] = self._ask(chosen, self.questions[at]).quality
        self.progress(FOLDS, FOLDS + 1)
        best = self._choose(self.questions)
        configured = self._column({}, self.questions)
        gain = bootstrap.differences({"q": unseen}, {"q": configured}, self.seed)["q"]
        self.progress(FOLDS + 1, FOLDS + 1)
        return Tuned(
            best=dict(best),
            gain=gain,
            p=significance.p_of_mean(unseen, configured, self.seed),
            seen_gain=float(self._column(best, self.questions).mean() - configured.mean()),
            expected={
                "quality": float(unseen.mean()),
                "configured": float(configured.mean()),
            },
            trials=self._trials(),
            tried=len({_name(each) for each in ({}, *self.settings, *self.dearer)}),
            questions=len(self.questions),
        )

    def _folds(self) -> list[int]:
        """Divide the questions so that those about a document stay together."""
        return [
            zlib.crc32((each.files[0] if each.files else each.key).encode()) % FOLDS
            for each in self.questions
        ]

    def _choose(self, questions: Sequence[EvalQuestion]) -> Overrides:
        """Return the best setting for some questions; of equals the configuration."""
        best = self._halve([{}, *self.settings], questions)
        return self._halve([best, *({**best, **each} for each in self.dearer)], questions)

    def _halve(self, settings: Sequence[Overrides], questions: Sequence[EvalQuestion]) -> Overrides:
        order = list(questions)
        random.Random(self.seed).shuffle(order)  # noqa: S311 - no secret
        left = list(settings)
        number = min(len(order), FEWEST)
        while True:
            some = order[:number]
            configured, *others = left
            # Stable: of equals the one that stands first, the configuration above all.
            others.sort(key=lambda each: -self._score(each, some))
            if number == len(order):
                return max([configured, *others], key=lambda each: self._score(each, order))
            left = [configured, *others[: max(FINALISTS, len(others) // 2)]]
            number = min(len(order), 2 * number)

    def _score(self, setting: Overrides, questions: Sequence[EvalQuestion]) -> float:
        asked = [self._ask(setting, each) for each in questions]
        slow = self.most_ms is not None and statistics.median(a.ms for a in asked) > self.most_ms
        return -1.0 if slow else statistics.fmean(each.quality for each in asked)

    def _column(self, setting: Overrides, questions: Sequence[EvalQuestion]) -> Values:
        return np.array([self._ask(setting, each).quality for each in questions])

    def _ask(self, setting: Overrides, question: EvalQuestion) -> Asked:
        key = (_name(setting), question.key)
        if key not in self._asked:
            self._asked[key] = self._retrieve(setting, question)
        return self._asked[key]

    def _retrieve(self, setting: Overrides, question: EvalQuestion) -> Asked:
        name = _name(setting)
        if name not in self._retrievers:
            self._retrievers[name] = self.open(setting)
            # What is loaded at first use is nobody's latency.
            self._retrievers[name].retrieve(self._bundle(question))
        began = time.perf_counter()
        nodes = self._retrievers[name].retrieve(self._bundle(question))
        ms = (time.perf_counter() - began) * 1000
        if question.key not in self._relevances:
            self._relevances[question.key] = Relevance(question)
        relevance = self._relevances[question.key]
        tokens, rank = 0, None
        for at, node in enumerate(nodes, start=1):
            text = node.node.get_content()
            more = self.count(text)
            if self.most_tokens is not None and tokens + more > self.most_tokens:
                break
            tokens += more
            if rank is None and relevance.is_hit(_path(node), text):
                rank = at
        return Asked((1 + 1 / rank) / 2 if rank else 0.0, tokens, ms)

    def _bundle(self, question: EvalQuestion) -> QueryBundle:
        return QueryBundle(question.question, embedding=list(self.vectors[question.key]))

    def _trials(self) -> tuple[Trial, ...]:
        """Return the settings that were asked all questions."""
        found = []
        for setting in ({}, *self.settings, *self.dearer):
            asked = [self._asked.get((_name(setting), each.key)) for each in self.questions]
            known = [each for each in asked if each is not None]
            if len(known) == len(asked):
                values = np.array([each.quality for each in known])
                quality = bootstrap.means({"q": values}, self.seed)["q"]
                ms = statistics.median(each.ms for each in known)
                tokens = statistics.fmean(each.tokens for each in known)
                found.append(Trial(dict(setting), quality, ms, tokens))
        return tuple(sorted(found, key=lambda each: -each.quality.value))


def name_of(setting: Overrides) -> str:
    """Return a setting in words."""
    if not setting:
        return "configured"
    return ", ".join(f"{key.partition('.')[2]} {value}" for key, value in setting.items())


def _name(setting: Overrides) -> str:
    return repr(sorted(setting.items()))


def _path(node: NodeWithScore) -> str:
    return str(node.metadata.get("path", ""))
