"""How probable it is that the contexts hold the answer, and whether that is enough to answer.

A logistic regression over `rag_app.answering.features`, one for each kind of search (by vectors and
words, by one of them), fitted on labelled questions whose documents were in the collection or left
out of it (``scripts/fit_confidence.py``), or on a user's own (`rag-app tune`). The confidence to
answer from is the lowest at which the share of wrong answers stays below the risk that is allowed,
with 95% certainty: both shares that it is made of are taken at their bounds by Clopper and Pearson
("The use of confidence or fiducial limits", 1934).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from llama_index.core.schema import MetadataMode, NodeWithScore

from rag_app.answering.features import FEATURES, features_of
from rag_app.config.answer import AnswerSection
from rag_app.errors import ConfigError
from rag_app.questions import is_small_talk
from rag_app.schema import Record
from rag_app.search.evidence import Evidence, evidence_of

UNANSWERABLE = 0.2
"""Share of questions that the documents do not answer, in what `answer.max_risk` promises."""

DOUBTED = 0.5
"""The same, in what counts as certain: if even then the risk is kept, there is no warning."""

CERTAINTY = 0.95

ABOVE_ALL = 1.01
"""What no confidence reaches."""


@dataclass(frozen=True)
class Reason(Record):
    """What a feature adds to the confidence.

    Attributes
    ----------
    feature
        One of `FEATURES`.
    contribution
        To the log-odds, against those of a question that is as likely answered as not.
    meaning
        Of the feature, in words.
    """

    feature: str
    value: float
    contribution: float
    meaning: str


@dataclass(frozen=True)
class Verdict(Record):
    """How sure it is that the contexts answer the question, and what follows.

    Attributes
    ----------
    confidence
        The probability that they hold the answer, where every other question has one.
    is_answered
        Whether it is enough to answer.
    is_certain
        Whether it is enough to answer without a warning.
    reasons
        The strongest first.
    """

    confidence: float
    is_answered: bool = True
    is_certain: bool = True
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Logistic:
    """A fitted regression.

    Attributes
    ----------
    centers
        The mean of each feature, which contributions are counted from.
    kept
        Of labelled questions that were not in the fit: at each confidence of `grid`, how many
        answerable ones were at least so sure, and how many unanswerable ones.
    of
        How many there were of both.
    """

    intercept: float
    coefficients: Mapping[str, float]
    centers: Mapping[str, float]
    kept: Sequence[tuple[float, int, int]]
    of: tuple[int, int]

    def reasons(self, features: Mapping[str, float]) -> list[Reason]:
        """Return what each feature adds, the strongest first."""
        found = []
        for name, slope in self.coefficients.items():
            # What is not known tells nothing.
            value = features.get(name, self.centers[name])
            meaning = FEATURES[name]
            found.append(Reason(name, value, slope * (value - self.centers[name]), meaning))
        return sorted(found, key=lambda reason: -abs(reason.contribution))

    def probability(self, reasons: Sequence[Reason]) -> float:
        """Return the probability of what has these reasons."""
        log_odds = self.intercept + sum(reason.contribution for reason in reasons)
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))

    def least(self, max_risk: float, unanswerable: float = UNANSWERABLE) -> float:
        """Return the lowest confidence that keeps the risk; above 1 where none does.

        Parameters
        ----------
        unanswerable
            Share of questions that the documents do not answer.
        """
        if max_risk >= 1:
            return 0.0
        for confidence, right, wrong in self.kept:
            if self._risk(right, wrong, unanswerable) <= max_risk:
                return confidence
        return ABOVE_ALL

    def _risk(self, right: int, wrong: int, unanswerable: float) -> float:
        """Return the upper bound of the share of wrong ones among those that are answered."""
        from scipy.stats import beta  # 0.2 s, once

        # Half of the doubt for each of both bounds.
        doubt = (1 - CERTAINTY) / 2
        answerable, not_answerable = self.of
        least = beta.ppf(doubt, right, answerable - right + 1) if right else 0.0
        most = (
            beta.ppf(1 - doubt, wrong + 1, not_answerable - wrong)
            if wrong < not_answerable
            else 1.0
        )
        false = unanswerable * float(most)
        true = (1 - unanswerable) * float(least)
        return false / (false + true) if false + true else 1.0


class Judge:
    """Tells how sure it is that contexts answer a question.

    Raises
    ------
    ConfigError
        If the file of coefficients is not there, or is none.
    """

    def __init__(self, section: AnswerSection) -> None:
        self._models = read_models(section.confidence)
        self._section = section

    def __call__(self, question: str, nodes: Sequence[NodeWithScore]) -> Verdict | None:
        """Return the verdict on contexts; None where they come from no search of ours."""
        # A document that quotes a greeting is nearest to it, and answers nothing.
        if not nodes or is_small_talk(question):
            return Verdict(0.0, is_answered=False, is_certain=False)
        evidence = evidence_of(nodes)
        if evidence is None:
            return None
        passages = [(above(node), node.node.get_content(MetadataMode.NONE)) for node in nodes]
        kind = kind_of(evidence)
        model = self._models.get(kind)
        if model is None:
            return None
        reasons = model.reasons(features_of(evidence, passages))
        confidence = model.probability(reasons)
        least, certain = self._thresholds(kind)
        return Verdict(confidence, confidence >= least, confidence >= certain, tuple(reasons))

    def _thresholds(self, kind: str) -> tuple[float, float]:
        section = self._section
        least, certain = thresholds(section.confidence, kind, section.max_risk)
        if section.min_confidence is not None:
            least = section.min_confidence
        return least, max(least, certain)


def above(node: NodeWithScore) -> str:
    """Return what a passage stands under: its document's title, and the headings above it."""
    about = node.metadata
    return f"{about.get('title') or ''} {about.get('headings') or ''}".strip()


def kind_of(evidence: Evidence) -> str:
    """Return which regression is for what was found: by what was searched, and told."""
    if evidence.near and evidence.shared is not None:
        return "both"
    return "vectors" if evidence.near else "words"


@cache
def thresholds(file: str, kind: str, max_risk: float) -> tuple[float, float]:
    """Return the confidence from which on to answer, and that from which on to be certain."""
    model = read_models(file)[kind]
    return model.least(max_risk), model.least(max_risk, DOUBTED)


def as_model(read: Mapping[str, Any]) -> Logistic:
    """Make a regression of what stands in a file."""
    return Logistic(
        float(read["intercept"]),
        {name: float(value) for name, value in read["coefficients"].items()},
        {name: float(read["centers"][name]) for name in read["coefficients"]},
        [(float(at), int(right), int(wrong)) for at, right, wrong in read["kept"]],
        (int(read["of"][0]), int(read["of"][1])),
    )


@cache
def read_models(file: str) -> Mapping[str, Logistic]:
    """Read regressions by their kind; empty: those that come with rag_app.

    Raises
    ------
    ConfigError
        If the file is not there, or is none.
    """
    try:
        if file:
            text = Path(file).read_text("utf-8")
        else:
            text = (files("rag_app.answering") / "confidence.json").read_text("utf-8")
        read: dict[str, Any] = json.loads(text)["models"]
        return {kind: as_model(each) for kind, each in read.items()}
    except OSError as error:
        raise ConfigError(
            f"answer.confidence = {file!r} cannot be read: {error}",
            "name the file that rag-app tune wrote, or leave it empty",
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"answer.confidence = {file!r} has no coefficients: {error!r}",
            "name the file that rag-app tune wrote, or leave it empty",
        ) from error
