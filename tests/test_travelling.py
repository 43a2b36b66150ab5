"""Apps and what they make are pickled and copied; another process opens its own parts."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import PromptTemplate

from rag_app import RagApp, build_query_engine, load_config
from rag_app.build import build_retriever
from rag_app.config.portable import with_secrets, without_secrets
from rag_app.config.sections import Config
from rag_app.errors import ClosedError, ConfigError, InputError
from rag_app.llms.replicas import RefusedRequestError
from rag_app.questions import Question
from tests.conftest import FakeEmbedder
from tests.test_app import EchoLLM

FIRST, SECOND = "What does bread need?", "What does Strong consistency show?"
OWN: Any = FakeEmbedder(model_name="own")


@pytest.fixture
def app(ingested: Config) -> Iterator[RagApp]:
    with RagApp(ingested, llm=EchoLLM(), embedder=OWN) as made:
        yield made


def again(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("how", [again, copy.copy, copy.deepcopy])
def test_in_one_process_a_copy_shares_the_app(app: RagApp, how: Callable[[Any], Any]) -> None:
    assert how(app) is app
    engine = app.query_engine(
        similarity_top_k=1, streaming=False, filter='path = "kitchen/bread.txt"'
    )
    copied = how(engine)
    assert copied is not engine
    assert [node.metadata["path"] for node in copied.query(SECOND).source_nodes] == [
        "kitchen/bread.txt"
    ]
    assert str(copied.query(FIRST)) == str(engine.query(FIRST))
    retriever = how(app.retriever(similarity_top_k=2))
    assert len(retriever.retrieve(FIRST)) == 2
    assert how(app.index()).as_retriever(similarity_top_k=1).retrieve(FIRST)
    batch = app.batch(similarity_top_k=1)
    batch.group = False
    assert not how(batch).group
    (answer,) = how(batch).run([Question(line=1, id=None, text=FIRST)])
    assert "flour" in answer.answer
    chat = app.chat_engine("ann")
    first = str(chat.chat(FIRST))
    assert [each.content for each in how(chat).chat_history] == [FIRST, first]


def test_prompts_that_were_replaced_go_along(app: RagApp) -> None:
    engine = app.query_engine()
    name = next(iter(engine.get_prompts()))
    engine.update_prompts({name: PromptTemplate("OTHER {context_str} {query_str}")})
    again(engine).query(FIRST)
    llm: Any = app.llm
    assert llm.prompts[-1].startswith("OTHER")


def test_a_copy_of_a_closed_app_is_closed(app: RagApp) -> None:
    pickled = pickle.dumps(app.query_engine())
    app.close()
    with pytest.raises(ClosedError):
        pickle.loads(pickled)


def ask(engine: Any, question: str) -> tuple[str, int]:
    from rag_app.travelling import _arrived

    return str(engine.query(question)), len(_arrived)


def test_a_spawned_worker_answers_with_parts_of_its_own_opened_once(app: RagApp) -> None:
    engine = app.query_engine(similarity_top_k=1)
    expected = [str(engine.query(question)) for question in (FIRST, SECOND)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
        first = worker.submit(ask, engine, FIRST).result(120)
        second = worker.submit(ask, app.query_engine(similarity_top_k=1), SECOND).result(120)
    assert [first, second] == [(expected[0], 1), (expected[1], 1)]


def test_what_the_build_functions_return_is_pickled_as_well(ingested: Config) -> None:
    engine = build_query_engine(ingested, llm=EchoLLM(), embedder=OWN)
    assert str(again(engine).query(FIRST)) == str(engine.query(FIRST))
    retriever = build_retriever(ingested, mode="text")
    assert [node.node_id for node in again(retriever).retrieve(FIRST)] == [
        node.node_id for node in retriever.retrieve(FIRST)
    ]


def test_secrets_of_the_environment_are_not_in_the_pickle(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_APP_LLM__API_KEY", "hush-llm")
    monkeypatch.setenv("RAG_APP_RETRIEVAL__RERANKER__API_KEY", "hush-reranker")
    config = load_config(overrides={"vector_store.token": "typed:in"})
    pickled = pickle.dumps(RagApp(config))
    assert b"hush" not in pickled
    assert b"typed:in" in pickled, "nothing else could bring it along"
    assert with_secrets(without_secrets(config)) == config
    travelled = pickle.loads(pickle.dumps(without_secrets(config)))
    monkeypatch.setenv("RAG_APP_LLM__API_KEY", "hush-other")
    assert with_secrets(travelled).llm.api_key.get_secret_value() == "hush-other"
    monkeypatch.delenv("RAG_APP_LLM__API_KEY")
    with pytest.raises(ConfigError, match="RAG_APP_LLM__API_KEY, which is not set"):
        with_secrets(travelled)


def test_errors_come_out_of_a_pickle_as_they_went_in() -> None:
    refused = RefusedRequestError("no", "ask again", 422, "too long")
    for error in (ClosedError(), refused, InputError("what", "try")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
    assert pickle.loads(pickle.dumps(refused)).status == 422
