"""The query engine, and wherever LlamaIndex takes one."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from pydantic import Field, PrivateAttr

from rag_app import app as wiring
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.synthesizer import PromptSynthesizer
from rag_app.build import build_batch, build_index, build_query_engine, build_retriever
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.errors import ConfigError, InputError, LLMError
from rag_app.ingestion.run import ingest
from rag_app.llms import PackableLLM, build_llm
from rag_app.milvus.store import open_store
from rag_app.questions import Question
from tests.conftest import HNSW_PAGE, MakeConfig, make_files, words

HNSW = "What do the parameters M and efConstruction of HNSW mean?"
ASKED = Question(line=1, id=None, text=HNSW)
NOBODY = "http://127.0.0.1:9/v1"
"""Where nothing listens: port 9 is "discard"."""


def contexts_of(prompt: str) -> list[str]:
    """Return the contexts in a prompt of the built-in template, without their numbers."""
    fenced = re.findall(r"^\[\d+\] <(\w+)>\n(.*?)\n</\1>$", prompt, re.DOTALL | re.MULTILINE)
    return [text for _, text in fenced]


class EchoLLM(CustomLLM, PackableLLM):
    """Answers with the prompt's last context, word by word; keeps the prompts."""

    window: int = 4096
    answer_tokens: int = 64
    script: list[str] = Field(default_factory=list)

    _prompts: list[str] = PrivateAttr(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return self._prompts

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.window, num_output=self.answer_tokens)

    def count_text_tokens(self, text: str) -> int:
        return len(words(text))

    def _answer_to(self, prompt: str) -> str:
        self._prompts.append(prompt)
        if self.script:
            return self.script.pop(0)
        return (contexts_of(prompt) or [prompt])[-1]

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text=self._answer_to(prompt))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        answer = self._answer_to(prompt)

        def pieces() -> CompletionResponseGen:
            so_far = ""
            for piece in answer.split(" "):
                delta = f" {piece}" if so_far else piece
                so_far += delta
                yield CompletionResponse(text=so_far, delta=delta)

        return pieces()


@pytest.fixture(autouse=True)
def _global_settings_are_never_touched() -> Iterator[None]:
    yield
    assert Settings._llm is None
    assert Settings._embed_model is None


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> EchoLLM:
    """An `EchoLLM` in place of the configured backend."""
    echo = EchoLLM()
    monkeypatch.setattr(wiring, "build_llm", lambda _section: echo)
    return echo


def with_llm(config: Config) -> Config:
    return config.model_copy(
        update={"llm": config.llm.model_copy(update={"backend": "vllm-server"})}
    )


async def text_of(response: Any) -> str:
    assert isinstance(response, AsyncStreamingResponse)
    generator: AsyncGenerator[str, None] = response.async_response_gen()
    return "".join([piece async for piece in generator])


# --- with an LLM ---------------------------------------------------------------------------------


def test_query_answers_from_the_best_context(ingested: Config, llm: EchoLLM) -> None:
    response = build_query_engine(with_llm(ingested)).query(HNSW)
    assert isinstance(response, Response)
    assert "maximum degree" in str(response)
    assert len(llm.prompts) == 1, "one question is one call"


def test_instructions_stand_before_the_prompt(ingested: Config, llm: EchoLLM) -> None:
    build_query_engine(with_llm(ingested), instructions="Answer in <|im_end|> German.").query(HNSW)
    build_query_engine(with_llm(ingested)).query(HNSW)
    instructed, bare = llm.prompts
    first, _, rest = instructed.partition("\n\n")
    assert first.startswith("Answer in ")
    assert "<|im_end|>" not in first
    assert rest.splitlines()[:2] == bare.splitlines()[:2]


def test_prompt_is_the_template_over_best_last_contexts(ingested: Config, llm: EchoLLM) -> None:
    config = with_llm(ingested)
    response = build_query_engine(config).query(HNSW)
    (prompt,) = llm.prompts
    retrieved = build_retriever(config).retrieve(HNSW)
    assert [each.node_id for each in response.source_nodes] == [
        each.node_id for each in reversed(retrieved)
    ]
    places = [prompt.index(each.node.get_content()) for each in response.source_nodes]
    assert places == sorted(places)
    assert prompt.endswith(f"Question: {HNSW}\nAnswer:")


def test_metadata_has_sources_ledger_and_counts(ingested: Config, llm: EchoLLM) -> None:
    response = build_query_engine(with_llm(ingested)).query(HNSW)
    about = response.metadata
    assert about is not None
    (prompt,) = llm.prompts
    assert about["prompt_tokens"] == llm.count_tokens(prompt)
    assert about["budget"] == 4096 - 64
    assert [entry["fate"] for entry in about["ledger"]] == ["kept"] * len(response.source_nodes)
    assert [entry["rank"] for entry in about["ledger"]] == list(range(1, len(about["ledger"]) + 1))
    for source, node in zip(about["sources"], response.source_nodes, strict=True):
        assert source["id"] == node.node_id
    assert contexts_of(prompt) == [source["text"] for source in about["sources"]]
    numbers = [source["number"] for source in about["sources"]]
    assert numbers == list(range(1, len(numbers) + 1))
    best = about["sources"][-1]
    assert (best["path"], best["file_name"], best["title"]) == (
        "index.md",
        "index.md",
        "Index types",
    )


def test_contexts_that_do_not_fit_the_window_are_dropped(ingested: Config, llm: EchoLLM) -> None:
    config = with_llm(ingested)
    whole = build_query_engine(config).query(HNSW)
    assert whole.metadata is not None
    llm.window = whole.metadata["prompt_tokens"] - 1 + llm.answer_tokens
    cut = build_query_engine(config).query(HNSW)
    assert cut.metadata is not None
    assert len(cut.source_nodes) == len(whole.source_nodes) - 1
    assert cut.metadata["ledger"][-1]["fate"] == "dropped"
    assert cut.source_nodes[-1].node_id == whole.source_nodes[-1].node_id
    assert llm.count_tokens(llm.prompts[-1]) <= llm.window - llm.answer_tokens


def test_nothing_that_fits_is_no_call_and_says_so(ingested: Config, llm: EchoLLM) -> None:
    bare = llm.count_tokens(PromptTemplate.load().render([], HNSW))
    llm.window = bare + 12 + llm.answer_tokens
    response = build_query_engine(with_llm(ingested)).query(HNSW)
    assert (str(response), response.source_nodes, llm.prompts) == (NOTHING_RELEVANT, [], [])
    assert response.metadata is not None
    assert {entry["fate"] for entry in response.metadata["ledger"]} == {"dropped"}


def test_question_that_does_not_fit_is_an_error(ingested: Config, llm: EchoLLM) -> None:
    llm.window = 100
    with pytest.raises(ConfigError, match="tokens before any context"):
        build_query_engine(with_llm(ingested)).query(HNSW)


async def test_aquery_answers_the_same(ingested: Config, llm: EchoLLM) -> None:
    engine = build_query_engine(with_llm(ingested))
    response = await engine.aquery(HNSW)
    assert str(response) == str(engine.query(HNSW))
    assert response.metadata is not None
    assert response.metadata["ledger"]


def test_streaming_comes_in_pieces(ingested: Config, llm: EchoLLM) -> None:
    config = with_llm(ingested)
    response = build_query_engine(config, streaming=True).query(HNSW)
    assert isinstance(response, StreamingResponse)
    assert response.metadata is not None
    assert response.metadata["sources"], "known before the first piece"
    pieces = list(response.response_gen)
    assert len(pieces) > 5
    assert "".join(pieces) == str(build_query_engine(config).query(HNSW))


async def test_async_streaming(ingested: Config, llm: EchoLLM) -> None:
    config = with_llm(ingested)
    response = await build_query_engine(config, streaming=True).aquery(HNSW)
    assert await text_of(response) == str(build_query_engine(config).query(HNSW))


async def test_streams_say_so_when_nothing_fits(ingested: Config, llm: EchoLLM) -> None:
    bare = llm.count_tokens(PromptTemplate.load().render([], HNSW))
    llm.window = bare + 12 + llm.answer_tokens
    engine = build_query_engine(with_llm(ingested), streaming=True)
    response = await asyncio.to_thread(engine.query, HNSW)
    assert isinstance(response, StreamingResponse)
    assert list(response.response_gen) == [NOTHING_RELEVANT]
    assert await text_of(await engine.aquery(HNSW)) == NOTHING_RELEVANT
    assert llm.prompts == []


def test_one_engine_works_in_two_event_loops(ingested: Config, llm: EchoLLM) -> None:
    engine = build_query_engine(with_llm(ingested))
    first, second = (str(asyncio.run(engine.aquery(HNSW))) for _ in range(2))
    assert first == second
    assert "maximum degree" in first


async def test_questions_may_be_asked_at_once(ingested: Config, llm: EchoLLM) -> None:
    engine = build_query_engine(with_llm(ingested))
    questions = [
        HNSW,
        "Bread: flour, water, salt, yeast?",
        "What does strong consistency show?",
    ] * 3
    answers = await asyncio.gather(*(engine.aquery(question) for question in questions))
    assert [str(answer) for answer in answers] == [str(engine.query(q)) for q in questions]
    assert "flour" in str(answers[1])


@pytest.mark.parametrize("question", ["", "  \n "])
async def test_empty_question_is_an_error(question: str, ingested: Config, llm: EchoLLM) -> None:
    engine = build_query_engine(with_llm(ingested))
    with pytest.raises(InputError, match="the question is empty"):
        engine.query(question)
    with pytest.raises(InputError, match="the question is empty"):
        await engine.aquery(question)
    assert llm.prompts == []


def test_own_template_is_used(ingested: Config, llm: EchoLLM, here: Path) -> None:
    (here / "own.jinja").write_text("OWN {{ contexts }} {{ sources }} {{ question }}")
    prompt = ingested.prompt.model_copy(update={"template": str(here / "own.jinja")})
    build_query_engine(with_llm(ingested).model_copy(update={"prompt": prompt})).query(HNSW)
    assert llm.prompts[0].startswith("OWN ")


# --- without one ---------------------------------------------------------------------------------


def test_extractive_answers_are_verbatim_with_numbers(
    real_embedder: Embedder, docs: Path, make_config: MakeConfig
) -> None:
    make_files(docs, {"index.md": HNSW_PAGE.replace("In-memory indexes", "Parameters of HNSW")})
    config = make_config(chunking__size=64)
    ingest(config, [docs])
    # Of so few rows hardly anything is certain.
    engine = build_query_engine(config, max_risk=1)
    response = engine.query("What do the parameters for HNSW mean?")
    assert isinstance(response, Response)
    about = response.metadata
    assert about is not None
    lines = str(response).splitlines()
    assert 1 <= len(lines) <= 3
    texts = {source["number"]: "" for source in about["sources"]}
    for source in about["sources"]:
        texts[source["number"]] += f"{source['text']}\n"
    for line in lines:
        quotation, _, number = line.rpartition(" ")
        assert quotation.strip("“”") in texts[int(number.strip("[]"))]
    assert "M is the maximum degree" in str(response)
    assert "bread" not in str(response).lower()
    assert (about["prompt_tokens"], about["budget"]) == (0, 0)


async def test_extractive_streams_and_awaits_the_same(ingested: Config) -> None:
    whole = str(build_query_engine(ingested).query(HNSW))
    streaming = build_query_engine(ingested, streaming=True)
    response = streaming.query(HNSW)
    assert isinstance(response, StreamingResponse)
    assert "".join(response.response_gen) == whole
    assert await text_of(await streaming.aquery(HNSW)) == whole
    assert str(await build_query_engine(ingested).aquery(HNSW)) == whole
    assert "maximum degree" in whole


def test_extractive_says_so_when_nothing_is_relevant(ingested: Config) -> None:
    assert str(build_query_engine(ingested).query("zzz qqq xyzzy")) == NOTHING_RELEVANT


# --- wherever LlamaIndex takes one ---------------------------------------------------------------


def as_tool(config: Config, name: str) -> QueryEngineTool:
    return QueryEngineTool.from_defaults(
        build_query_engine(config), name=name, description=f"Knows about {name}."
    )


async def test_behind_a_query_engine_tool(ingested: Config) -> None:
    tool = as_tool(ingested, "indexes")
    assert "maximum degree" in tool.call(HNSW).content
    output = await tool.acall(HNSW)
    assert "maximum degree" in output.content
    assert output.raw_output.metadata["sources"]


@pytest.fixture
def kitchen(ingested: Config, docs: Path) -> Config:
    """A second collection in the same database, of the kitchen alone."""
    section = ingested.vector_store.model_copy(update={"collection": "kitchen"})
    config = ingested.model_copy(update={"vector_store": section})
    ingest(config, [docs / "kitchen"])
    return config


@pytest.mark.parametrize("choice", [1, 2])
async def test_in_a_router_query_engine(ingested: Config, kitchen: Config, choice: int) -> None:
    selection = json.dumps([{"choice": choice, "reason": "scripted"}])
    scripted = EchoLLM(script=[selection, selection])
    router = RouterQueryEngine(
        selector=LLMSingleSelector.from_defaults(llm=scripted),
        query_engine_tools=[as_tool(ingested, "indexes"), as_tool(kitchen, "bread")],
        llm=scripted,
        summarizer=build_query_engine(ingested)._response_synthesizer,  # type: ignore[arg-type]
    )
    question = "Of what graph, flour or yeast?"
    for response in (router.query(question), await router.aquery(question)):
        paths = {node.metadata["path"] for node in response.source_nodes}
        assert ("index.md" in paths) is (choice == 1)
        assert "kitchen/bread.txt" in paths or "bread.txt" in paths


async def test_in_a_sub_question_query_engine(ingested: Config, kitchen: Config) -> None:
    plan = json.dumps(
        {
            "items": [
                {"sub_question": HNSW, "tool_name": "indexes"},
                {"sub_question": "What does bread of flour need?", "tool_name": "bread"},
            ]
        }
    )
    scripted = EchoLLM(script=[plan, "First final answer.", plan, "Second final answer."])
    engine = SubQuestionQueryEngine(
        question_gen=LLMQuestionGenerator.from_defaults(llm=scripted),
        response_synthesizer=PromptSynthesizer(scripted, PromptTemplate.load(), streaming=False),
        query_engine_tools=[as_tool(ingested, "indexes"), as_tool(kitchen, "bread")],
        verbose=False,
        use_async=False,
    )
    response = await asyncio.to_thread(engine.query, "Compare graphs and bread.")
    assert str(response) == "First final answer."
    final_prompt = scripted.prompts[1]
    assert f"Sub question: {HNSW}" in final_prompt
    assert "maximum degree" in final_prompt
    assert "flour, water, salt and yeast" in final_prompt
    assert str(await engine.aquery("Compare graphs and bread.")) == "Second final answer."


async def test_under_the_retriever_evaluator(ingested: Config) -> None:
    retriever = build_retriever(ingested)
    best = retriever.retrieve(HNSW)[0].node_id
    evaluator = RetrieverEvaluator.from_metric_names(["hit_rate", "mrr"], retriever=retriever)
    found = await evaluator.aevaluate(HNSW, [best])
    assert found.metric_vals_dict == {"hit_rate": 1.0, "mrr": 1.0}
    missed = await evaluator.aevaluate(HNSW, ["no such node"])
    assert missed.metric_vals_dict == {"hit_rate": 0.0, "mrr": 0.0}


async def test_bare_texts_are_answered_as_synthesizers_do(ingested: Config, llm: EchoLLM) -> None:
    synthesizer = PromptSynthesizer(llm, PromptTemplate.load(), streaming=False)
    texts = ["The best text.", "The worst text."]
    assert "The best text." in str(synthesizer.get_response("Which?", texts))
    assert "The best text." in str(await synthesizer.aget_response("Which?", texts))
    prompt = llm.prompts[0]
    assert prompt.index("worst") < prompt.index("best")


# --- retrievers and indexes ----------------------------------------------------------------------


def test_retrieved_nodes_come_best_first_with_their_names(ingested: Config) -> None:
    nodes = build_retriever(ingested).retrieve(HNSW)
    scores = [node.score or 0.0 for node in nodes]
    assert scores == sorted(scores, reverse=True)
    assert nodes[0].metadata["path"] == nodes[0].metadata["file_name"] == "index.md"
    consistency = build_retriever(ingested).retrieve("strong consistency bounded staleness")[0]
    assert consistency.metadata["path"] == "guide/consistency.html"
    assert consistency.metadata["file_name"] == "consistency.html"


@pytest.mark.parametrize("top_k", [1, 3])
def test_as_many_nodes_are_retrieved_as_configured(ingested: Config, top_k: int) -> None:
    section = ingested.retrieval.model_copy(update={"similarity_top_k": top_k})
    retriever = build_retriever(ingested.model_copy(update={"retrieval": section}))
    assert len(retriever.retrieve(HNSW)) == top_k


def test_fewer_nodes_than_asked_for_are_all(ingested: Config) -> None:
    section = ingested.retrieval.model_copy(update={"similarity_top_k": 1000})
    retriever = build_retriever(ingested.model_copy(update={"retrieval": section}))
    rows = open_store(ingested).count()
    assert len(retriever.retrieve(QueryBundle(HNSW))) == rows


@pytest.mark.parametrize("question", ["", QueryBundle("")])
async def test_empty_question_retrieves_an_error(
    question: str | QueryBundle, ingested: Config
) -> None:
    retriever = build_retriever(ingested)
    with pytest.raises(InputError, match="the question is empty"):
        retriever.retrieve(question)
    with pytest.raises(InputError, match="the question is empty"):
        await retriever.aretrieve(question)


async def test_aretrieve_finds_the_same(ingested: Config) -> None:
    retriever = build_retriever(ingested)
    ids = [node.node_id for node in await retriever.aretrieve(HNSW)]
    assert ids == [node.node_id for node in retriever.retrieve(HNSW)]


def test_index_serves_llamaindex_apps(ingested: Config) -> None:
    index = build_index(ingested)
    question = "What is the maximum degree of a node in the graph?"  # for a bag of words
    (best,) = index.as_retriever(similarity_top_k=1).retrieve(question)
    assert best.metadata["path"] == "index.md"


@pytest.mark.parametrize("build", [build_index, build_retriever, build_query_engine])
def test_nothing_ingested_is_an_error_before_any_model_is_loaded(
    build: Callable[[Config], Any], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "build_embedder", lambda _: pytest.fail("loaded the model"))
    with pytest.raises(InputError, match="there is no collection"):
        build(make_config())


@pytest.mark.parametrize("build", [build_query_engine, build_batch])
def test_an_llm_that_cannot_run_is_an_error_before_any_model_is_loaded(
    build: Callable[[Config], Any],
    ingested: Config,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "build_embedder", lambda _: pytest.fail("loaded the model"))
    there = {"chunking__size": 40, "chunking__overlap": 0}
    with pytest.raises(LLMError, match="no LLM server answers"):
        build(make_config(llm__backend="vllm-server", llm__base_url=NOBODY, **there))


@pytest.mark.parametrize("build", [build_query_engine, build_batch])
def test_an_llm_that_answers_from_words_alone_needs_no_embedder(
    build: Callable[[Config], Any],
    ingested: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "build_embedder", lambda _: pytest.fail("loaded the model"))
    monkeypatch.setattr(wiring, "build_llm", lambda _: EchoLLM())
    llm = ingested.llm.model_copy(update={"backend": "vllm", "model": "any"})
    retrieval = ingested.retrieval.model_copy(update={"mode": "text"})
    built = build(ingested.model_copy(update={"llm": llm, "retrieval": retrieval}))
    answer = built.query(HNSW) if build is build_query_engine else next(built.run([ASKED])).answer
    assert "efConstruction" in str(answer)


def test_extractive_has_no_llm_to_build(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r'llm\.backend is "extractive"') as caught:
        build_llm(make_config().llm)
    assert '"vllm-server"' in caught.value.remedy
