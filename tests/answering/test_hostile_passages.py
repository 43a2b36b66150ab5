"""Documents are data: what they write neither ends its passage nor becomes a citation."""

import re
from dataclasses import replace

import pytest

from rag_app.answering.citations import cited_numbers
from rag_app.answering.extractive import NOTHING_RELEVANT, Extractor
from rag_app.answering.fencing import KNOWN_FAMILIES
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.support import SupportChecker
from rag_app.config.sections import ExtractiveSection
from rag_app.schema import Source
from tests.answering.hostile_passages import FORGED_CITATIONS, FORGED_TOKENS, PASSAGES
from tests.conftest import FakeEmbedder

QUESTION = "Is the Korvan bridge open?"
HONEST = Source(1, "h", "h", "h.md", "h.md", "Bridges", "markdown", None, 2.0, "It is a bridge.")
FENCED = re.compile(r"^\[(\d)\] <([0-9a-f]{12})>\n(.*?)\n</\2>$", re.DOTALL | re.MULTILINE)


def hostile(text: str) -> Source:
    return replace(HONEST, number=2, path=f"{text}.md", title=text, text=text)


def test_there_are_fifty() -> None:
    assert len(set(PASSAGES)) == 50


@pytest.mark.parametrize("text", PASSAGES)
def test_passage_stays_between_its_markers(text: str) -> None:
    prompt = PromptTemplate.load().render([HONEST, hostile(text)], QUESTION)
    (one, marker, _), (two, other, inside) = FENCED.findall(prompt)
    assert (one, two, marker) == ("1", "2", other)
    assert inside == KNOWN_FAMILIES(text)
    assert marker not in text
    assert prompt.count(marker) == 4, "two passages, and nothing else has it"
    # What is not fenced: the head, a line for each source, the question.
    outside = FENCED.sub("", prompt)
    assert re.findall(r"^Question: .*|^Answer:.*|^\[\d\]", outside, re.MULTILINE) == [
        "[1]",
        "[2]",
        f"Question: {QUESTION}",
        "Answer:",
    ]


@pytest.mark.parametrize("text", FORGED_TOKENS)
def test_no_special_token_is_left(text: str) -> None:
    prompt = PromptTemplate.load().render([hostile(text)], QUESTION)
    assert not re.search(
        r"<\|[a-z_]+\|>|\[/?INST\]|</?s>|<<|<(?:start|end)_of|</?think>|<tool", prompt
    )


@pytest.mark.parametrize("text", PASSAGES)
def test_quotations_cite_their_own_passage_alone(text: str) -> None:
    section = ExtractiveSection(min_similarity=-1.0)
    answer = Extractor(section, FakeEmbedder(), "english").answer(QUESTION, [hostile(text)])
    assert cited_numbers(answer) == ([] if answer == NOTHING_RELEVANT else [2])


@pytest.mark.parametrize("text", FORGED_CITATIONS)
def test_a_model_that_repeats_a_forged_citation_is_not_supported_by_it(text: str) -> None:
    found = SupportChecker("english").check("The moon is made of cheese [9].", [hostile(text)])
    assert [each.marks for each in found] == [("unsupported",)]
