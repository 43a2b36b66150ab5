"""Our engines in LlamaIndex programs: agents, chat engines, evaluators, with scripted LLMs."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.evaluation import FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import TransformQueryEngine
from llama_index.core.tools import QueryEngineTool, RetrieverTool

from rag_app import RagApp
from rag_app.answering.extractive import Extractor
from rag_app.config.sections import Config
from rag_app.runner import THREADS
from tests.test_app import HNSW, EchoLLM, with_llm

OF_WORKFLOWS = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""LlamaIndex's agents use deprecated attributes of their own and of Pydantic's."""


@pytest.fixture
def llm() -> EchoLLM:
    return EchoLLM()


@pytest.fixture
def app(ingested: Config, llm: EchoLLM) -> Iterator[RagApp]:
    with RagApp(with_llm(ingested), llm=llm) as made:
        yield made


def calls_then_says(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
    """Call the tool "manual" with the question, then repeat what it returned."""
    last = messages[-1]
    if last.role == MessageRole.TOOL:
        return ChatMessage(role="assistant", content=f"The manual says: {last.content}")
    call = ToolCallBlock(tool_call_id="1", tool_name="manual", tool_kwargs={"input": HNSW})
    return ChatMessage(role="assistant", blocks=[call])


@OF_WORKFLOWS
async def test_a_function_agent_asks_the_query_engine(app: RagApp) -> None:
    tool = QueryEngineTool.from_defaults(
        app.query_engine(), name="manual", description="Answers from the manual."
    )
    agent = FunctionAgent(
        tools=[tool], llm=MockFunctionCallingLLM(response_generator=calls_then_says)
    )
    answered: Any = await agent.run("What do the parameters mean?")
    assert "The manual says:" in str(answered)
    assert "maximum degree" in str(answered)
    (call,) = answered.tool_calls
    assert call.tool_output.raw_output.metadata["sources"]


@OF_WORKFLOWS
async def test_a_react_agent_asks_the_retriever(app: RagApp) -> None:
    tool = RetrieverTool.from_defaults(
        app.retriever(), name="passages", description="Finds passages."
    )
    call = f'Thought: I look.\nAction: passages\nAction Input: {{"input": "{HNSW}"}}'
    scripted = EchoLLM(script=[call, "Thought: I can answer.\nAnswer: It is the degree."])
    answered = await ReActAgent(tools=[tool], llm=scripted, streaming=False).run("What is M?")
    assert str(answered) == "It is the degree."
    assert "maximum degree" in scripted.prompts[1]


async def test_llamaindexs_chat_engines_take_the_retriever(app: RagApp) -> None:
    for kind in (CondensePlusContextChatEngine, ContextChatEngine):
        scripted = EchoLLM(script=["It is the degree.", "What is ef of HNSW?", "How many."])
        if kind is ContextChatEngine:
            del scripted.script[1]
        memory = ChatMemoryBuffer.from_defaults(token_limit=1000, tokenizer_fn=str.split)
        engine = kind.from_defaults(retriever=app.retriever(), llm=scripted, memory=memory)
        first = engine.chat(HNSW)
        assert str(first) == "It is the degree."
        assert first.source_nodes[0].metadata["path"] == "index.md"
        assert "maximum degree" in scripted.prompts[0]
        assert str(await engine.achat("And ef?")) == "How many."


async def test_evaluators_judge_the_query_engines_responses(app: RagApp) -> None:
    response: Any = app.query_engine().query(HNSW)
    for kind in (FaithfulnessEvaluator, RelevancyEvaluator):
        scripted = EchoLLM(script=["YES", "NO"])
        evaluator = kind(llm=scripted)
        passed = await evaluator.aevaluate_response(query=HNSW, response=response)
        assert (passed.passing, passed.score) == (True, 1.0)
        assert "maximum degree" in scripted.prompts[0]
        assert not (await evaluator.aevaluate_response(query=HNSW, response=response)).passing


async def test_a_query_transform_goes_before_the_query_engine(app: RagApp) -> None:
    writer = EchoLLM(script=["HNSW has a maximum degree M and efConstruction candidates."])
    # The question's own words stand nowhere: all of the trust is in what was written for it.
    plain = app.query_engine(mode="dense", max_risk=1)
    engine = TransformQueryEngine(plain, HyDEQueryTransform(llm=writer))
    assert "maximum degree" in str(await engine.aquery("What are the knobs?"))


async def test_many_asynchronous_questions_take_no_more_threads_than_the_pool_has(
    ingested: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is computed in the event loop, which goes on meanwhile."""
    computing: set[str] = set()
    answer = Extractor.answer

    def noted(self: Extractor, *arguments: Any) -> str:
        computing.add(threading.current_thread().name)
        return answer(self, *arguments)

    monkeypatch.setattr(Extractor, "answer", noted)
    before = threading.active_count()
    most, longest, done = 0, 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal most, longest
        loop = asyncio.get_running_loop()
        while not done.is_set():
            began = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - began)
            most = max(most, threading.active_count() - before)

    with RagApp(ingested) as app:
        engine = app.query_engine()
        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(engine.aquery(f"{HNSW} {n}") for n in range(64)))
        done.set()
        await watching
    assert all("maximum degree" in str(each) for each in answers)
    assert threading.current_thread().name not in computing
    assert 0 < len(computing) <= THREADS
    # The pool's, the one that embeds, and those of gRPC and Milvus Lite beneath.
    assert most <= THREADS + 1 + 24
    assert longest < 5, "seconds that the event loop stood still"
