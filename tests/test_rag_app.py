"""`RagApp`: parts made once, shared by what is made of them, and given back."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import CompletionResponse
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from rag_app import RagApp, build_chat_engine, build_query_engine
from rag_app import app as wiring
from rag_app.config.sections import Config
from rag_app.errors import ClosedError, ConfigError, InputError, LLMError
from tests.conftest import FakeEmbedder
from tests.test_app import EchoLLM, with_llm

QUESTIONS = [
    "What do M and efConstruction of HNSW mean?",
    "What does Strong consistency show?",
    "What does bread need?",
    "How many clusters does nprobe visit?",
]
OWN: Any = FakeEmbedder(model_name="own")
HTML = MetadataFilters(
    filters=[MetadataFilter(key="type", value="html", operator=FilterOperator.EQ)]
)


class Loads:
    """Counts how often each part is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, int] = {"open_store": 0, "build_embedder": 0, "build_llm": 0}
        self.llm = EchoLLM()
        monkeypatch.setattr(wiring, "build_llm", lambda _: self.llm)
        for name in self.of:
            monkeypatch.setattr(wiring, name, self._counted(name, getattr(wiring, name)))

    def _counted(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **settings: Any) -> Any:
            self.of[name] += 1
            return make(*arguments, **settings)

        return counted


@pytest.fixture
def loads(fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


@pytest.fixture
def app(ingested: Config, loads: Loads) -> Iterator[RagApp]:
    with RagApp(with_llm(ingested)) as made:
        yield made


def test_nothing_is_made_before_it_is_needed(app: RagApp, loads: Loads) -> None:
    assert set(loads.of.values()) == {0}
    app.retriever(mode="text").retrieve(QUESTIONS[0])
    assert loads.of == {"open_store": 1, "build_embedder": 0, "build_llm": 0}


def test_engines_with_other_overrides_share_one_embedder_and_one_llm(
    app: RagApp, loads: Loads
) -> None:
    one = app.query_engine(similarity_top_k=1)
    two = app.query_engine(similarity_top_k=2, mode="dense", order="best_first")
    assert len(one.query(QUESTIONS[0]).source_nodes) == 1
    assert len(two.query(QUESTIONS[0]).source_nodes) == 2
    app.retriever(filter='type = "html"').retrieve(QUESTIONS[1])
    app.chat_engine()
    app.batch(similarity_top_k=3)
    app.index()
    assert loads.of == {"open_store": 1, "build_embedder": 1, "build_llm": 1}


def test_many_threads_at_once_make_each_part_once(app: RagApp, loads: Loads) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return str(app.query_engine().query(QUESTIONS[0]))

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert loads.of == {"open_store": 1, "build_embedder": 1, "build_llm": 1}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"similarity_top_k": 0}, "retrieval.similarity_top_k = 0 is wrong"),
        ({"similarity_top_k": "3"}, "retrieval.similarity_top_k = '3' is wrong"),
        ({"mode": "nearest"}, "there is no retrieval mode 'nearest'"),
        ({"filter": 'type = "html'}, "retrieval.filter"),
        ({"candidates": 2}, "retrieval.candidates = 2"),
        ({"top_p": 2.0}, "llm.top_p = 2.0 is wrong"),
        ({"similarity_topk": 3}, "'similarity_topk' cannot be changed per call"),
        ({"language": "german"}, "'language' cannot be changed per call"),
    ],
)
def test_overrides_are_checked_as_the_file_is(
    app: RagApp, overrides: dict[str, Any], message: str
) -> None:
    for make in (app.retriever, app.query_engine, app.batch, app.chat_engine):
        with pytest.raises(ConfigError) as raised:
            make(**overrides)
        assert message in str(raised.value)


def test_an_override_is_for_its_own_engine_alone(app: RagApp) -> None:
    before = app.config.model_dump()
    app.query_engine(similarity_top_k=1, temperature=0.0, seed=3)
    assert app.config.model_dump() == before
    assert len(app.query_engine().query(QUESTIONS[0]).source_nodes) > 1


def test_sampling_overrides_reach_the_llm_and_the_packing(
    app: RagApp, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    complete: Callable[..., CompletionResponse] = EchoLLM.complete

    def noted(self: EchoLLM, prompt: str, **kwargs: Any) -> CompletionResponse:
        asked.append(kwargs)
        return complete(self, prompt)

    monkeypatch.setattr(EchoLLM, "complete", noted)
    plain = app.query_engine().query(QUESTIONS[0]).metadata or {}
    asked.clear()
    response = app.query_engine(temperature=0.0, max_tokens=32, seed=7).query(QUESTIONS[0])
    assert asked == [{"temperature": 0.0, "max_tokens": 32, "seed": 7}]
    assert (response.metadata or {})["budget"] == plain["budget"] + loads.llm.answer_tokens - 32


def test_filters_are_joined_to_the_configured_one(app: RagApp) -> None:
    def paths(**options: Any) -> set[str]:
        found = app.retriever(similarity_top_k=20, **options).retrieve("consistency index bread")
        return {node.metadata["path"] for node in found}

    assert paths() == {"index.md", "guide/consistency.html", "kitchen/bread.txt"}
    assert paths(filters=HTML) == {"guide/consistency.html"}
    assert paths(filters=HTML, filter='path != "guide/consistency.html"') == set()


def test_what_is_handed_in_is_used_and_not_closed(
    ingested: Config, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[EchoLLM] = []
    monkeypatch.setattr(EchoLLM, "close", lambda self: closed.append(self))
    own = EchoLLM()
    with RagApp(ingested, llm=own, embedder=OWN) as app:
        app.query_engine().query(QUESTIONS[0])
    assert len(own.prompts) == 1
    assert closed == []
    assert (loads.of["build_llm"], loads.of["build_embedder"]) == (0, 0)
    with RagApp(with_llm(ingested)) as app:
        assert app.llm is loads.llm
    assert closed == [loads.llm]


def test_two_apps_share_an_embedder_and_its_batches(ingested: Config, loads: Loads) -> None:
    with RagApp(ingested) as one:
        with RagApp(ingested, embedder=one.embedder) as two:
            assert two.embedder is one.embedder
        assert one.retriever().retrieve(QUESTIONS[0])
    assert loads.of["build_embedder"] == 1


def test_the_build_functions_take_parts_postprocessors_and_callbacks(ingested: Config) -> None:
    seen = LlamaDebugHandler(print_trace_on_end=False)
    own = EchoLLM()
    engine = build_query_engine(
        ingested,
        llm=own,
        embedder=OWN,
        filters=HTML,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=-1.0)],
        callback_manager=CallbackManager([seen]),
    )
    response = engine.query(QUESTIONS[1])
    assert {node.metadata["type"] for node in response.source_nodes} == {"html"}
    assert len(own.prompts) == 1
    kinds = {pair[0].event_type for pair in seen.get_event_pairs()}
    assert {CBEventType.QUERY, CBEventType.RETRIEVE} <= kinds
    strict = build_query_engine(
        ingested,
        embedder=OWN,
        llm=own,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=1e9)],
    )
    assert strict.query(QUESTIONS[1]).source_nodes == []
    with pytest.raises(ConfigError, match="extractive"):
        build_chat_engine(ingested)


def test_close_lets_another_program_have_the_database(ingested: Config, loads: Loads) -> None:
    opens = f"from milvus_lite.db import MilvusLite; MilvusLite({ingested.vector_store.uri!r})"

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", opens], capture_output=True, text=True, timeout=60, check=False
        )

    one, two = RagApp(ingested), RagApp(ingested)
    for app in (one, two):
        app.retriever(mode="text").retrieve(QUESTIONS[0])
    one.close()
    assert "another process holds the lock" in other().stderr
    assert two.retriever(mode="text").retrieve(QUESTIONS[0])
    two.close()
    two.close()
    assert other().returncode == 0


def test_after_close_there_is_a_clear_error(ingested: Config, loads: Loads) -> None:
    app = RagApp(ingested)
    app.query_engine()
    app.close()
    for use in (app.retriever, app.query_engine, app.index, app.batch):
        with pytest.raises(InputError, match="this RagApp is closed"):
            use()


class NoDefaultExecutor(ThreadPoolExecutor):
    """Fails whoever wants a thread of the event loop's own."""

    def submit(self, *arguments: Any, **kwargs: Any) -> Any:
        raise AssertionError("a thread of the event loop's default executor was asked for")


@pytest.mark.parametrize("backend", ["extractive", "llm"])
def test_questions_of_an_event_loop_leave_its_executor_alone(
    ingested: Config, loads: Loads, backend: str
) -> None:
    async def ask(app: RagApp) -> list[str]:
        asyncio.get_running_loop().set_default_executor(NoDefaultExecutor())
        engine, streaming = app.query_engine(), app.query_engine(streaming=True)
        answers = await asyncio.gather(*map(engine.aquery, QUESTIONS))
        nodes = await asyncio.gather(*map(app.retriever().aretrieve, QUESTIONS))
        assert all(nodes)
        response: Any = await streaming.aquery(QUESTIONS[0])
        pieces = [piece async for piece in response.async_response_gen()]
        assert "".join(pieces).strip() == str(answers[0]).strip()
        return [str(answer) for answer in answers]

    with RagApp(with_llm(ingested) if backend == "llm" else ingested) as app:
        expected = [str(app.query_engine().query(question)) for question in QUESTIONS]
        assert asyncio.run(ask(app)) == expected


def test_a_question_that_runs_is_answered_before_the_app_closes(
    ingested: Config, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    complete: Callable[..., CompletionResponse] = EchoLLM.complete

    def slowly(self: EchoLLM, prompt: str, **kwargs: Any) -> CompletionResponse:
        begun.set()
        time.sleep(0.3)
        return complete(self, prompt)

    monkeypatch.setattr(EchoLLM, "complete", slowly)
    app = RagApp(with_llm(ingested))
    engine = app.query_engine()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(engine.query, QUESTIONS[0])
        assert begun.wait(30)
        app.close(drain=30)
        assert str(asked.result(30))
    with pytest.raises(ClosedError):
        engine.query(QUESTIONS[0])


def test_a_question_that_takes_too_long_is_told_that_the_app_was_closed(
    ingested: Config, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, closed = threading.Event(), threading.Event()

    def cut_off(self: EchoLLM, prompt: str, **kwargs: Any) -> CompletionResponse:
        begun.set()
        assert closed.wait(30)
        raise LLMError("the engine was stopped")

    monkeypatch.setattr(EchoLLM, "complete", cut_off)
    monkeypatch.setattr(EchoLLM, "close", lambda _: closed.set())
    app = RagApp(with_llm(ingested))
    engine = app.query_engine()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(engine.query, QUESTIONS[0])
        assert begun.wait(30)
        started = time.monotonic()
        app.close(drain=0.1)
        assert time.monotonic() - started < 10
        with pytest.raises(ClosedError):
            asked.result(30)


def test_no_thread_is_left_behind(ingested: Config, loads: Loads, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with RagApp(with_llm(ingested)) as app:
        app.query_engine().query(QUESTIONS[0])
        asyncio.run(app.query_engine().aquery(QUESTIONS[0]))
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:  # gRPC's server ends in one
        thread.join(10)
    assert [thread.name for thread in left if thread.is_alive() and not thread.daemon] == []
    assert [thread.name for thread in left if thread.name.startswith("rag_app")] == []
