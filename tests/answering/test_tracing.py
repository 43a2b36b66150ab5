"""What LlamaIndex's instrumentation tells of a question: one whole tree, each span closed."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import (
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rag_app import RagApp, build_index
from rag_app.config.sections import Config
from rag_app.errors import InputError, LLMError
from rag_app.questions import Question
from tests.answering.spans import Trace, collected
from tests.test_app import HNSW, EchoLLM, with_llm

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}

ASKED = """\
QueryEngine.{a}query QueryStart QueryEnd
  QueryEngine._{a}query
    Retriever.{a}retrieve RetrievalStart RetrievalEnd
      Retriever._{a}retrieve
        BatchingEmbedder.{a}get_query_embedding EmbeddingStart EmbeddingEnd
          BatchingEmbedder._{a}get_query_embedding
    PromptSynthesizer.{a}synthesize SynthesizeStart SynthesizeEnd
      PromptSynthesizer.{a}get_response GetResponseStart GetResponseEnd
        TalkingLLM.{llm}"""


class TalkingLLM(EchoLLM):
    """An LLM that has its own asynchronous methods, and says how many tokens it took."""

    def _pieces(self, prompt: str) -> list[CompletionResponse]:
        words = self._answer_to(prompt).split(" ")
        texts = [" ".join(words[: number + 1]) for number in range(len(words))]
        return [
            CompletionResponse(
                text=text, delta=text if not at else f" {words[at]}", additional_kwargs=USAGE
            )
            for at, text in enumerate(texts)
        ]

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return self._pieces(prompt)[-1]

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return self._pieces(prompt)[-1]

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        def pieces() -> CompletionResponseGen:
            yield from self._pieces(prompt)

        return pieces()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseAsyncGen:
        async def pieces() -> CompletionResponseAsyncGen:
            for piece in self._pieces(prompt):
                await asyncio.sleep(0)
                yield piece

        return pieces()


@pytest.fixture
def llm() -> TalkingLLM:
    return TalkingLLM()


@pytest.fixture
def app(ingested: Config, llm: TalkingLLM) -> Iterator[RagApp]:
    with RagApp(with_llm(ingested), llm=llm) as made:
        yield made


def expected(llm: str, *, a: str = "") -> str:
    return ASKED.format(a=a, llm=llm)


def check_what_is_told(trace: Trace, app: RagApp, a: str = "") -> None:
    """Node ids, scores, contexts and counts are those of a question that is not traced."""
    plain = app.query_engine().query(HNSW)
    found = app.retriever().retrieve(HNSW)
    retrieved = trace.of(f"Retriever.{a}retrieve").event("RetrievalEndEvent").nodes
    assert [(node.node_id, node.score) for node in retrieved] == [
        (node.node_id, node.score) for node in found
    ]
    assert all(node.score is not None for node in retrieved)
    asked = trace.of(f"PromptSynthesizer.{a}get_response").event("GetResponseStartEvent")
    assert asked.query_str == HNSW
    assert asked.text_chunks == [node.node.get_content() for node in plain.source_nodes]
    answered = trace.of(f"PromptSynthesizer.{a}synthesize").event("SynthesizeEndEvent").response
    assert answered.source_nodes == plain.source_nodes
    assert {**answered.metadata, "sources": 0} == {**(plain.metadata or {}), "sources": 0}
    assert answered is trace.of(f"QueryEngine.{a}query").result
    assert answered is trace.of(f"QueryEngine.{a}query").event("QueryEndEvent").response


def test_a_question_is_one_tree(app: RagApp, llm: TalkingLLM) -> None:
    engine = app.query_engine()
    with collected() as trace:
        response = engine.query(HNSW)
    assert trace.tree() == expected("complete LLMCompletionStart LLMCompletionEnd")
    assert {span.ended for span in trace.spans} == {"exit"}
    told = trace.of("TalkingLLM.complete").event("LLMCompletionEndEvent").response
    assert (told.text, told.additional_kwargs) == (str(response), USAGE)
    assert trace.of("TalkingLLM.complete").event("LLMCompletionStartEvent").prompt == llm.prompts[0]
    check_what_is_told(trace, app)


async def test_asynchronously_too(app: RagApp) -> None:
    engine = app.query_engine()
    with collected() as trace:
        response = await engine.aquery(HNSW)
    assert trace.tree() == expected("acomplete LLMCompletionStart LLMCompletionEnd", a="a")
    assert {span.ended for span in trace.spans} == {"exit"}
    told = trace.of("TalkingLLM.acomplete").event("LLMCompletionEndEvent").response
    assert (told.text, told.additional_kwargs) == (str(response), USAGE)
    check_what_is_told(trace, app, "a")


def test_a_stream_is_one_tree_whose_llm_ends_with_it(app: RagApp) -> None:
    engine = app.query_engine(streaming=True)
    with collected() as trace:
        response = engine.query(HNSW)
        assert isinstance(response, StreamingResponse)
        assert trace.tree() == expected("stream_complete LLMCompletionStart"), "nothing read yet"
        assert not trace.is_open
        text = "".join(response.response_gen)
    assert trace.tree() == expected(
        "stream_complete LLMCompletionStart LLMCompletionInProgress LLMCompletionEnd"
    )
    told = trace.of("TalkingLLM.stream_complete").event("LLMCompletionEndEvent").response
    assert (told.text, told.additional_kwargs) == (text, USAGE)
    check_what_is_told(trace, app)


async def test_an_asynchronous_stream_too(app: RagApp) -> None:
    engine = app.query_engine(streaming=True)
    with collected() as trace:
        response = await engine.aquery(HNSW)
        assert isinstance(response, AsyncStreamingResponse)
        text = "".join([piece async for piece in response.async_response_gen()])
    assert trace.tree() == expected(
        "astream_complete LLMCompletionStart LLMCompletionInProgress LLMCompletionEnd", a="a"
    )
    assert not trace.is_open
    told = trace.of("TalkingLLM.astream_complete").event("LLMCompletionEndEvent").response
    assert (told.text, told.additional_kwargs) == (text, USAGE)
    check_what_is_told(trace, app, "a")


async def test_a_stream_that_is_abandoned_ends_too(app: RagApp) -> None:
    engine = app.query_engine(streaming=True)
    abandoned = "LLMCompletionStart LLMCompletionInProgress Exception"
    with collected() as trace:
        response: Any = await asyncio.to_thread(engine.query, HNSW)
        next(response.response_gen)
        response.response_gen.close()
    assert trace.tree() == expected(f"stream_complete {abandoned}")
    assert not trace.is_open
    with collected() as trace:
        response = await engine.aquery(HNSW)
        await anext(response.response_gen)
        await response.response_gen.aclose()
    assert trace.tree() == expected(f"astream_complete {abandoned}", a="a")
    assert not trace.is_open


async def test_a_turn_of_a_conversation_is_one_tree(app: RagApp, llm: TalkingLLM) -> None:
    chat = app.chat_engine()
    chat.chat(HNSW)
    llm.script = ["What is ef of HNSW?"]
    with collected() as trace:
        chat.chat("And ef?")
    with collected() as atrace:
        await chat.achat("And M?")
    for found, a in ((trace, ""), (atrace, "a")):
        roots = [span.name for span in found.spans if span.parent is None]
        assert roots == [f"ChatEngine.{a}chat"]
        names = {span.name for span in found.spans}
        assert {f"TalkingLLM.{a}predict", f"QueryEngine.{a}query"} <= names
        assert not found.is_open


async def test_a_conversation_that_is_left_ends_the_llms_call(app: RagApp) -> None:
    with collected() as trace:
        pieces = app.chat_engine().stream(HNSW)
        next(pieces)
        pieces.close()
        apieces = app.chat_engine().astream(HNSW)
        await anext(apieces)
        await apieces.aclose()
    for name in ("stream_complete", "astream_complete"):
        told = [event.class_name() for event in trace.of(f"TalkingLLM.{name}").events]
        assert told[-1] == "ExceptionEvent"


def test_what_fails_is_told_of(app: RagApp, llm: TalkingLLM) -> None:
    llm.script = [" "]
    with collected() as trace, pytest.raises(LLMError, match="answered nothing"):
        app.query_engine().query(HNSW)
    ended = {span.name.rpartition(".")[2]: span.ended for span in trace.spans}
    assert ended["complete"] == ended["retrieve"] == "exit"
    for name in ("get_response", "synthesize", "_query", "query"):
        assert "the model answered nothing" in ended[name]
    with collected() as trace, pytest.raises(InputError):
        app.query_engine().query(" ")
    assert not trace.is_open


def test_quotations_are_a_tree_without_an_llm(ingested: Config) -> None:
    with RagApp(ingested) as app, collected() as trace:
        app.query_engine().query(HNSW)
    names = [span.name for span in trace.spans if "._get" not in span.name]
    assert names == [
        "QueryEngine.query",
        "QueryEngine._query",
        "Retriever.retrieve",
        "Retriever._retrieve",
        "BatchingEmbedder.get_query_embedding",
        "ExtractiveSynthesizer.synthesize",
        "ExtractiveSynthesizer.get_response",
        "BatchingEmbedder.get_text_embedding_batch",
    ]
    assert not trace.is_open


def test_a_batch_tells_of_each_question_and_of_the_vectors_once(ingested: Config) -> None:
    texts = [HNSW, "yeast bread"]
    with RagApp(ingested) as app, collected() as trace:
        answers = list(app.batch().run([Question(1, None, text) for text in texts]))
        alone = [app.retriever().retrieve(text) for text in texts]
    assert len(answers) == 2
    found = trace.of("Retriever._find_each")
    assert found.event("EmbeddingEndEvent").chunks == texts
    told = [each for each in trace.spans if each.name == "Retriever._refine_one"]
    ended = [each.event("RetrievalEndEvent") for each in told]
    assert [each.str_or_query_bundle.query_str for each in ended] == texts
    assert [[node.node_id for node in each.nodes] for each in ended] == [
        [node.node_id for node in nodes] for nodes in alone
    ]
    assert not trace.is_open


class Backwards(BaseNodePostprocessor):
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return nodes[::-1]


async def test_postprocessors_have_their_span_and_no_thread_of_the_event_loop(
    app: RagApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = app.query_engine(node_postprocessors=[Backwards()])
    with collected() as trace:
        engine.query(HNSW)
    monkeypatch.setattr(asyncio, "to_thread", None)
    with collected() as atrace:
        await engine.aquery(HNSW)
    for found, a in ((trace, ""), (atrace, "a")):
        retrieved = found.of(f"Retriever.{a}retrieve").event("RetrievalEndEvent").nodes
        assert found.of("Backwards._postprocess_nodes").result == retrieved[::-1]


def test_callbacks_are_of_the_engine_that_they_were_given_to(
    app: RagApp, llm: TalkingLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(_: TalkingLLM) -> None:
        raise AssertionError("an LLM of its own would have to be closed as well")

    monkeypatch.setattr(TalkingLLM, "__copy__", another)
    seen = LlamaDebugHandler(print_trace_on_end=False)
    theirs, own = app.query_engine(callback_manager=CallbackManager([seen])), llm.callback_manager
    others = app.query_engine()
    others.query(HNSW)
    assert llm.callback_manager is own
    assert seen.get_events() == []
    theirs.query(HNSW)
    kinds = [event.event_type for event in seen.get_events()]
    wanted = (CBEventType.QUERY, CBEventType.RETRIEVE, CBEventType.SYNTHESIZE, CBEventType.LLM)
    assert [kinds.count(kind) for kind in wanted] == [2, 2, 2, 2], "each begins and ends, once"


def test_an_llms_own_callbacks_stay(ingested: Config) -> None:
    seen = LlamaDebugHandler(print_trace_on_end=False)
    llm = TalkingLLM(callback_manager=CallbackManager([seen]))
    with RagApp(with_llm(ingested), llm=llm) as app:
        app.query_engine().query(HNSW)
    assert CBEventType.LLM in {event.event_type for event in seen.get_events()}


async def test_the_global_settings_are_left_alone(
    app: RagApp, ingested: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in vars(Settings):  # other programs' tests may have made some
        monkeypatch.setattr(Settings, name, None)
    assert await app.query_engine().aquery(HNSW)
    assert app.chat_engine().chat(HNSW)
    assert build_index(ingested).as_retriever().retrieve(HNSW)
    made = (Settings._llm, Settings._embed_model, Settings._callback_manager)
    assert made == (None, None, None)
    others = (Settings._node_parser, Settings._transformations, Settings._prompt_helper)
    assert others == (None, None, None)


async def test_metadata_is_json(app: RagApp) -> None:
    streamed: Any = await app.query_engine(streaming=True).aquery(HNSW)
    assert "".join([piece async for piece in streamed.async_response_gen()])
    for response in (
        app.query_engine().query(HNSW),
        await app.query_engine().aquery(HNSW),
        app.query_engine(streaming=True).query(HNSW),
        streamed,
    ):
        assert response.metadata
        assert json.loads(json.dumps(response.metadata)) == response.metadata
        assert response.metadata["sources"][-1]["path"] == "index.md"
        assert response.metadata["ledger"][0]["fate"] == "kept"


async def test_a_chat_engines_metadata_is_its_answers(app: RagApp) -> None:
    plain = app.query_engine().query(HNSW).metadata
    for answered in (app.chat_engine().chat(HNSW), await app.chat_engine().achat(HNSW)):
        assert answered.metadata == plain
        assert json.dumps(answered.metadata)


def drawn(exporter: InMemorySpanExporter) -> list[str]:
    """Return the names of the finished spans of one trace, indented, and forget them."""
    spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
    exporter.clear()
    by_id = {span.context.span_id: span for span in spans}
    assert len({span.context.trace_id for span in spans}) == 1
    lines = []
    for span in spans:
        depth, parent = 0, span.parent
        while parent is not None:
            depth, parent = depth + 1, by_id[parent.span_id].parent
        kind = str((span.attributes or {})["openinference.span.kind"])
        lines.append(f"{'  ' * depth}{span.name} {kind}")
    return lines


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """What OpenInference tells OpenTelemetry."""
    openinference = pytest.importorskip("openinference.instrumentation.llama_index")
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = openinference.LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    yield exporter
    instrumentor.uninstrument()
    provider.shutdown()


def shown(llm: str, *, a: str = "") -> list[str]:
    kinds = ("CHAIN", "CHAIN", "RETRIEVER", "RETRIEVER", "EMBEDDING", "EMBEDDING")
    lines = expected(llm, a=a).splitlines()
    names = [f"{line[: len(line) - len(line.lstrip())]}{line.split()[0]}" for line in lines]
    return [
        f"{name} {kind}"
        for name, kind in zip(names, (*kinds, "CHAIN", "CHAIN", "LLM"), strict=True)
    ]


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20:openinference")
async def test_openinference_shows_the_whole_tree(
    app: RagApp, exporter: InMemorySpanExporter
) -> None:
    plain, streaming = app.query_engine(), app.query_engine(streaming=True)
    response = plain.query(HNSW)
    told: dict[str, Any] = {}
    for span in exporter.get_finished_spans():
        told |= {f"{span.name} {key}": value for key, value in (span.attributes or {}).items()}
    assert drawn(exporter) == shown("complete")
    assert told["TalkingLLM.complete llm.token_count.total"] == USAGE["total_tokens"]
    assert told["QueryEngine.query output.value"] == str(response)
    best = response.source_nodes[-1]
    document = "Retriever.retrieve retrieval.documents.0.document"
    assert (told[f"{document}.id"], told[f"{document}.score"]) == (best.node_id, best.score)

    await plain.aquery(HNSW)
    assert drawn(exporter) == shown("acomplete", a="a")
    stream: Any = streaming.query(HNSW)
    "".join(stream.response_gen)
    assert drawn(exporter) == shown("stream_complete")
    stream = streaming.query(HNSW)
    next(stream.response_gen)
    stream.response_gen.close()
    assert drawn(exporter) == shown("stream_complete")
    stream = await streaming.aquery(HNSW)
    assert [piece async for piece in stream.async_response_gen()]
    assert drawn(exporter) == shown("astream_complete", a="a")
    stream = await streaming.aquery(HNSW)
    await anext(stream.response_gen)
    await stream.response_gen.aclose()
    assert drawn(exporter) == shown("astream_complete", a="a")
