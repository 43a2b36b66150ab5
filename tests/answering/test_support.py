"""Sentences of answers, held against what they cite."""

import json
import re
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.answering.marking import Marker, marked, without_unsupported
from rag_app.answering.metadata import support_of
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.support import SupportChecker, sentence_spans
from rag_app.answering.synthesizer import PromptSynthesizer
from rag_app.schema import Source
from tests.conftest import FakeEmbedder
from tests.test_app import EchoLLM

BRIDGE = (
    "The Korvan bridge was opened in 1931 by Anna Rossi. It has a length of 1,214 metres. "
    "It is not open to lorries. The architect Milo Brandt built three other bridges in Tarvel."
)
TOWER = "The Melud tower stands in Sollen. Peter Quint designed it in 1875."


def source(text: str, number: int) -> Source:
    name = f"{number}.md"
    return Source(number, name, name, name, name, "", "text", None, 1.0, text)


SOURCES = [source(TOWER, 1), source(BRIDGE, 2)]


def marks(answer: str, question: str = "") -> list[tuple[str, ...]]:
    checker = SupportChecker("english", FakeEmbedder())
    return [found.marks for found in checker.check(answer, SOURCES, question)]


@pytest.mark.parametrize(
    "answer",
    [
        "The Korvan bridge was opened in 1931 by Anna Rossi [2].",
        "Anna Rossi opened the Korvan bridge in 1931. [2]",
        "It has a length of 1214 metres [2].",
        "It is not open to lorries [2].",
        "Milo Brandt built 3 other bridges in Tarvel [2].",
        "Peter Quint designed the Melud tower in 1875.",
        "The Korvan bridge was opened in 1931 and Peter Quint designed the Melud tower [1, 2].",
    ],
)
def test_what_the_passages_say_is_supported(answer: str) -> None:
    assert marks(answer) == [()]


@pytest.mark.parametrize(
    ("answer", "mark"),
    [
        ("The Korvan bridge was opened in 1932 by Anna Rossi [2].", "number"),
        ("The Korvan bridge was opened in 1931 by Peter Quint [2].", "name"),
        ("The Korvan bridge was opened in 1931 by Milo Brandt [2].", "name"),
        ("The Korvan bridge was not opened in 1931 by Anna Rossi [2].", "negation"),
        ("It is open to lorries [2].", "negation"),
        ("Anna Rossi opened the Korvan bridge in 1931, and it was designed in 1875 [2].", "number"),
        ("The Korvan bridge was opened in 1931 by Anna Rossi [1].", "unsupported"),
        ("The Korvan bridge was opened in 1931 by Anna Rossi [7].", "unsupported"),
        ("Most people like to swim in the river in summer [2].", "unsupported"),
    ],
)
def test_what_they_do_not_say_is_marked(answer: str, mark: str) -> None:
    """An altered number, a swapped name, a negation, two sources merged, a wrong citation."""
    (found,) = marks(answer)
    assert mark in found


def test_a_name_from_the_question_may_come_again() -> None:
    answer = "In Sollen the tower of Melud stands [1]."
    assert marks(f"For Bert, {answer[0].lower()}{answer[1:]}")[0][-1:] == ("name",)
    assert marks(f"For Bert, {answer[0].lower()}{answer[1:]}", "Where is it, asks Bert?") == [()]


def test_refusals_claim_nothing() -> None:
    assert marks("The documents do not answer this.") == []


def test_an_inference_model_decides_where_there_is_one() -> None:
    checker = SupportChecker("english", None, lambda passage, said: float("Anna" in passage))
    answer = "Somebody opened a bridge [2]. It stands in Sollen [1]."
    assert [found.is_supported for found in checker.check(answer, SOURCES)] == [True, False]


def test_sentences_stand_where_they_stand() -> None:
    answer = "One is here. [1] Two is here [2].\n- Three, 3.5 metres.\n"
    assert [answer[slice(*span)] for span in sentence_spans(answer)] == [
        "One is here. [1]",
        "Two is here [2].",
        "- Three, 3.5 metres.",
    ]


def test_streams_are_marked_as_sentences_end() -> None:
    answer = "The Korvan bridge was opened in 1932 [2]. It is not open to lorries [2]."
    metadata: dict[str, list[dict[str, object]]] = {}
    marker = Marker(SupportChecker("english"), SOURCES, "", metadata)
    counts = []
    for _ in marked((piece for piece in re.findall(r"\S+\s*", answer)), marker):
        counts.append(len(metadata["support"]))
    assert counts[0] == 0
    assert counts[-1] == 1, "the first one is known before the last has ended"
    assert [found["marks"] for found in metadata["support"]] == [["unsupported", "number"], []]


def test_unsupported_sentences_are_left_out() -> None:
    answer = "The Korvan bridge was opened in 1932 [2]. It is not open to lorries [2]."
    found = SupportChecker("english").check(answer, SOURCES)
    assert without_unsupported(answer, found) == "It is not open to lorries [2]."


WRONG = "The Korvan bridge was opened in 1932 [2]. It is not open to lorries [2]."
RIGHT = "The Korvan bridge was opened in 1931 [2]."


def answered(*lines: str, streaming: bool = False, strict: bool = False) -> Any:
    synthesizer = PromptSynthesizer(
        EchoLLM(script=list(lines)),
        PromptTemplate.load(),
        streaming=streaming,
        checker=SupportChecker("english"),
        strict=strict,
    )
    nodes = [
        NodeWithScore(node=TextNode(text=text), score=1.0 / (at + 1))
        for at, text in enumerate((BRIDGE, TOWER))
    ]
    return synthesizer.synthesize("When was it opened?", nodes)


@pytest.mark.parametrize("streaming", [False, True])
def test_response_tells_the_support_of_each_sentence(streaming: bool) -> None:
    response = answered(WRONG, streaming=streaming)
    said = "".join(response.response_gen) if streaming else str(response)
    assert said == WRONG
    first, second = support_of(response.metadata) or []
    assert (first.marks, second.marks) == (("unsupported", "number"), ())
    told = response.metadata["support"]
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ((RIGHT,), RIGHT),
        ((WRONG, RIGHT), RIGHT),
        ((WRONG, WRONG), "It is not open to lorries [2]."),
        ((WRONG, "It is 99 years old [1]."), NOTHING_RELEVANT),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_strict_asks_once_more_and_leaves_out_the_rest(
    lines: tuple[str, ...], answer: str, streaming: bool
) -> None:
    response = answered(*lines, streaming=streaming, strict=True)
    assert ("".join(response.response_gen) if streaming else str(response)) == answer
    assert all(each.is_supported for each in support_of(response.metadata) or ())
