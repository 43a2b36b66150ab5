"""How sure it is that the contexts answer a question, and what is done where it is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from rag_app.answering.batch import Answer
from rag_app.answering.confidence import Logistic, read_models
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.answering.features import FEATURES, features_of
from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.errors import ConfigError
from rag_app.questions import Question
from rag_app.search.evidence import AskedWord, Evidence
from tests.conftest import MakeConfig

HNSW = "What is the maximum degree M of a node in the HNSW graph?"
ELSEWHERE = "Who won the 1998 World Cup?"


@pytest.fixture
def app(ingested: Config) -> Any:
    with RagApp(ingested) as app:
        yield app


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text", "mmr"])
def test_what_the_documents_answer_is_answered_and_nothing_else(app: RagApp, mode: str) -> None:
    engine = app.query_engine(mode=mode)
    answer, refusal = engine.query(HNSW), engine.query(ELSEWHERE)
    assert answer.metadata is not None
    assert refusal.metadata is not None
    assert "maximum degree" in str(answer)
    assert str(refusal) == NOTHING_RELEVANT
    assert refusal.metadata["confidence"] < 0.1 < 0.5 < answer.metadata["confidence"]
    assert (answer.metadata["answered"], refusal.metadata["answered"]) == (True, False)
    # Its nearest passages are there to be looked at, where there are any.
    assert refusal.metadata["sources"] or mode == "text"
    json.dumps([answer.metadata, refusal.metadata])


async def test_every_way_to_ask_refuses_alike(app: RagApp) -> None:
    plain, streaming = app.query_engine(), app.query_engine(streaming=True)
    assert str(await plain.aquery(ELSEWHERE)) == NOTHING_RELEVANT
    streamed = streaming.query(ELSEWHERE)
    assert isinstance(streamed, StreamingResponse)
    assert str(streamed.get_response()) == NOTHING_RELEVANT
    assert streamed.metadata is not None
    assert streamed.metadata["answered"] is False
    response = await streaming.aquery(ELSEWHERE)
    assert isinstance(response, AsyncStreamingResponse)
    assert str(await response.get_response()) == NOTHING_RELEVANT
    questions = [Question(1, "a", HNSW), Question(2, "b", ELSEWHERE)]
    answers = {each.line: each for each in app.batch().run(questions) if isinstance(each, Answer)}
    assert [answers[line].answered for line in (1, 2)] == [True, False]
    assert answers[2].confidence is not None
    assert answers[2].answer == NOTHING_RELEVANT


@pytest.mark.parametrize("question", ["hi", "Thanks!", "Vielen Dank", "谢谢"])
def test_small_talk_is_not_answered_with_quotes(app: RagApp, question: str) -> None:
    assert str(app.query_engine().query(question)) == NOTHING_RELEVANT


def test_how_sure_is_sure_enough_can_be_said(app: RagApp) -> None:
    doubtful = "Does a zebra in Berlin knead the dough of bread?"
    assert str(app.query_engine(min_confidence=1).query(doubtful)) == NOTHING_RELEVANT
    assert "Knead the dough" in str(app.query_engine(max_risk=1).query(doubtful))
    assert str(app.query_engine(min_confidence=1).query(HNSW)) == NOTHING_RELEVANT


def test_all_features_tell_how_much_they_say(app: RagApp) -> None:
    about = app.query_engine().query(HNSW).metadata
    assert about is not None
    assert {reason["feature"] for reason in about["why"]} <= set(FEATURES)
    strengths = [abs(reason["contribution"]) for reason in about["why"]]
    assert strengths == sorted(strengths, reverse=True)


def test_a_rare_word_that_is_missing_counts_more_than_a_common_one() -> None:
    words = (AskedWord(frozenset({"berlin"}), 6.0), AskedWord(frozenset({"cost"}), 1.0))
    evidence = Evidence(words=words, language="english")
    common = features_of(evidence, [("", "It has a cost.")])
    rare = features_of(evidence, [("", "It is in Berlin.")])
    assert [common["covered"], rare["covered"]] == pytest.approx([1 / 7, 6 / 7])
    assert (common["missing"], rare["missing"]) == (6.0, 1.0)
    assert features_of(evidence, [("Berlin", "It has a cost.")])["covered_sentence"] == 1.0


def test_the_threshold_keeps_the_risk_with_certainty() -> None:
    """As many as are needed to tell: of few questions nothing is certain."""
    kept = [(0.1, 1000, 500), (0.5, 980, 100), (0.9, 900, 2)]
    model = Logistic(0.0, {}, {}, kept, (1000, 1000))
    assert [model.least(risk, 0.5) for risk in (0.5, 0.12, 0.02)] == [0.1, 0.5, 0.9]
    few = Logistic(0.0, {}, {}, [(0.5, 10, 0)], (10, 10))
    assert few.least(0.05, 0.5) > 1
    assert model.least(0.05, 0.1) < model.least(0.05, 0.9)


def test_coefficients_that_are_none_are_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    assert set(read_models("")) == {"both", "vectors", "words"}
    with pytest.raises(ConfigError, match="cannot be read"):
        read_models(str(tmp_path / "none.json"))
    (tmp_path / "wrong.json").write_text('{"models": {"both": {}}}')
    with pytest.raises(ConfigError, match="has no coefficients"):
        read_models(str(tmp_path / "wrong.json"))


def test_a_doubtful_answer_comes_with_a_warning(
    ingested: Config, run: Callable[..., Result]
) -> None:
    small = ("--set", "chunking.size=40", "--set", "chunking.overlap=0")
    anyway = ("--set", "answer.min_confidence=0")
    result = run("query", "Does a zebra in Berlin knead the dough of bread?", *small, *anyway)
    assert "Knead the dough" in result.stdout
    assert "not certain (confidence 0." in result.stderr
