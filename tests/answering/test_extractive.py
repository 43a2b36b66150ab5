"""Answers without a model: what is quoted, of what, and what that costs."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from rag_app.answering import extractive
from rag_app.answering.citations import cited_numbers
from rag_app.answering.extractive import CANDIDATES, NOTHING_RELEVANT, Extractor
from rag_app.config.sections import ExtractiveSection
from rag_app.schema import Source
from tests.conftest import FakeEmbedder


def source(text: str, number: int = 1, kind: str = "markdown") -> Source:
    name = f"{number}.md"
    return Source(number, name, name, name, name, "A title", kind, None, 1.0, text)


def make(embedder: FakeEmbedder | None = None, **section: Any) -> Extractor:
    settings = ExtractiveSection(**{"min_similarity": 0.1, **section})
    return Extractor(settings, embedder or FakeEmbedder(), "english")


def extract(question: str, *sources: Source, **section: Any) -> str:
    return make(**section).answer(question, sources)


MANY = " ".join(f"The index number {n} is a graph of vectors." for n in range(40))


def test_at_most_so_many_sentences_are_quoted() -> None:
    for most in (1, 2, 4):
        answer = extract("index graph", source(MANY), max_sentences=most)
        assert answer.count("is a graph of vectors.") == most


def test_sentences_of_a_context_stand_in_its_order_and_together() -> None:
    answer = extract(
        "knead dough",
        source(
            "Knead the dough for long. The oven has to be very hot. Knead the dough once again."
        ),
    )
    assert answer == "“Knead the dough for long. … Knead the dough once again.” [1]"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When was the bridge opened?", "The bridge was opened in June 1931."),
        ("How many people came to the bridge?", "To the bridge came 214 people."),
        ("Who opened the bridge?", "The bridge was opened by Anna Rossi."),
        ("Wann wurde die Brücke eröffnet?", "Die Brücke wurde im Juni eröffnet."),
    ],
)
def test_what_is_asked_for_comes_first(question: str, answer: str) -> None:
    others = "The bridge was opened by many people. Die Brücke wurde von allen eröffnet."
    assert extract(question, source(f"{others} {answer}"), max_sentences=1) == f"“{answer}” [1]"


def test_an_embedder_that_knows_no_chinese_does_not_decide() -> None:
    class Latin(FakeEmbedder):
        def _vector(self, text: str) -> list[float]:
            return super()._vector(re.sub(r"[^\x00-\x7f]+", "", text) + "HNSW")

    extractor = Extractor(ExtractiveSection(min_similarity=0.9), Latin(), "auto")
    context = "上海是一个很大的城市。北京是中国的首都。HNSW HNSW HNSW HNSW HNSW。"
    answer = extractor.answer("中国的首都是什么？", [source(context)])  # noqa: RUF001
    assert answer.startswith("“北京是中国的首都。")


def test_better_context_is_trusted_more() -> None:
    low = replace(source("The index is a large graph.", 1), score=3.0)
    high = replace(source("The index is a big graph.", 2), score=9.0)
    assert extract("index graph", low, high, max_sentences=1) == "“The index is a big graph.” [2]"


def test_each_part_of_a_question_is_answered() -> None:
    tower = source("The tower was built by Anna Rossi. The tower is made of brick and stone.", 1)
    bridge = source("The bridge was opened in 1931. The bridge is used by many people.", 2)
    answer = extract(
        "Who built the tower, and when was the bridge opened?", tower, bridge, max_sentences=2
    )
    assert answer.splitlines() == [
        "“The tower was built by Anna Rossi.” [1]",
        "“The bridge was opened in 1931.” [2]",
    ]


def test_very_long_sentence_is_cut_to_the_part_that_was_asked_for() -> None:
    filler = ", ".join(f"the thing with number {n}" for n in range(60))
    answer = extract("knead dough", source(f"It is said of {filler}, knead the dough, {filler}."))
    assert "knead the dough" in answer
    assert answer.startswith("“… ")
    assert len(answer) < 500


def test_the_closest_is_quoted_first_with_its_source() -> None:
    answer = extract(
        "How long do I knead the dough?",
        source("The index is a graph of many vectors.", 1),
        source("Knead the dough for ten long minutes. The oven has to be hot.", 2),
    )
    assert answer.splitlines()[0] == "“Knead the dough for ten long minutes.” [2]"


def test_no_sentence_below_the_threshold_is_quoted() -> None:
    sentence = source("Knead the dough for ten long minutes.")
    assert extract("vectors", sentence, min_similarity=0.5) == NOTHING_RELEVANT
    assert extract("dough", source("   ")) == NOTHING_RELEVANT
    assert extract("dough") == NOTHING_RELEVANT


def test_wrapped_lines_are_joined_and_no_markup_is_quoted() -> None:
    answer = extract(
        "knead dough minutes",
        source("# Knead dough minutes\n\n|---|---|\n\nKnead the dough\nfor ten minutes, slowly.\n"),
    )
    assert answer == "“Knead the dough for ten minutes, slowly.” [1]"


@pytest.mark.parametrize("question", ["HNSW", "hnsw?", "an HNSW graph"])
def test_sentence_that_holds_the_question_answers_it(question: str) -> None:
    answer = extract(question, source("An HNSW graph is searched from its topmost layer."))
    assert answer == "“An HNSW graph is searched from its topmost layer.” [1]"


@pytest.mark.parametrize(
    "asked",
    [
        "What do the parameters of HNSW mean?",
        "Type rag-app query “what do the parameters of HNSW mean?” and see.",
        "什么 What do the parameters of HNSW mean？",  # noqa: RUF001
    ],
)
def test_question_that_is_asked_in_a_document_is_no_answer(asked: str) -> None:
    question = "What do the parameters of HNSW mean?"
    answer = extract(question, source(f"{asked}\n\nThe parameters of HNSW shape its graph."))
    assert answer == "“The parameters of HNSW shape its graph.” [1]"


def test_code_is_quoted_whole_with_its_line_breaks_and_its_number_below() -> None:
    block = "```yaml\ncommon:\n  security:\n    tlsMode: 1\n```"
    answer = extract("tlsMode security", source(f"Some prose comes before it.\n\n{block}\n", 3))
    assert answer == f"“Some prose comes before it.”\n{block}\n[3]"
    assert cited_numbers(answer) == [3]


def test_long_code_is_cut_to_the_lines_that_were_asked_for() -> None:
    lines = "\n".join(f"key_{n}: value" for n in range(50))
    block = f"```yaml\n{lines}\nport: 19530\nuser: root\n```"
    answer = extract("port", source(f"Set it like this:\n\n{block}\n", 3))
    assert "port: 19530\nuser: root\n```\n[3]" in answer
    assert "…\nkey_36: value" in answer
    assert "key_1:" not in answer


def test_few_sentences_are_embedded_and_none_twice() -> None:
    embedder = FakeEmbedder()
    extractor = make(embedder)
    first = extractor.answer("index number 7 graph", [source(MANY)])
    assert len(embedder.embedded) == CANDIDATES
    assert extractor.answer("index number 7 graph", [source(MANY)]) == first
    assert len(embedder.embedded) == CANDIDATES, "the vectors were kept"


def test_kept_vectors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractive, "KEPT_VECTORS", 10)
    embedder = FakeEmbedder()
    extractor = make(embedder)
    for number in range(5):
        text = MANY.replace("graph", f"graph{number}")
        assert extractor.answer("index graph vectors", [source(text)])
    assert len(extractor._vectors._kept) == 10


def test_all_are_looked_at_before_nothing_is_relevant() -> None:
    """Words choose the candidates; what is meant in other words is found all the same."""

    class Synonyms(FakeEmbedder):
        def _vector(self, text: str) -> list[float]:
            return super()._vector(text.replace("automobile", "car car car"))

    off_topic = " ".join(f"A red thing with number {n} is here." for n in range(2 * CANDIDATES))
    sources = [source("The automobile goes along quickly.", 1), source(off_topic, 2)]
    section = ExtractiveSection(min_similarity=0.6)
    answer = Extractor(section, Synonyms(), "english").answer("car", sources)
    assert answer == "“The automobile goes along quickly.” [1]"


def test_vector_of_the_question_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = FakeEmbedder()
    known = embedder.get_query_embedding("knead the dough")
    monkeypatch.setattr(FakeEmbedder, "_get_query_embedding", lambda *_: pytest.fail("again"))
    answer = make(embedder).answer("knead the dough", [source("Knead the dough for long.")], known)
    assert answer == "“Knead the dough for long.” [1]"


def test_many_threads_are_answered_alike() -> None:
    extractor = make()
    sources = [source(MANY), source("Knead the dough for ten long minutes.", 2)]
    questions = ["index graph", "dough", "number 3 of vectors"] * 8
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda asked: extractor.answer(asked, sources), questions))
    assert answers[:3] * 8 == answers
