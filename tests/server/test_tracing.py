"""A streamed answer is one trace, below the caller's own, and passes its context on."""

import http.client
import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rag_app.config.sections import Config
from rag_app.load import override
from rag_app.server import tracing
from tests.server.conftest import serving
from tests.test_app import EchoLLM

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HNSW: Any = [{"role": "user", "content": "What do M and efConstruction of HNSW mean?"}]


def under(spans: list[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    return [span for span in spans if span.parent and span.parent.span_id == parent.context.span_id]


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20:openinference")
@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_is_one_trace(ingested: Config, llm: EchoLLM, streams: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serving(override(ingested, {"llm.backend": "vllm-server"}), provider) as server:
        # Not httpx: in this process its requests are traced as well.
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        body = json.dumps({"model": "rag_app", "messages": HNSW, "stream": streams})
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        assert answer.read()
        connection.close()
    spans = list(exporter.get_finished_spans())
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    (root,) = [span for span in spans if span.name == "POST /v1/chat/completions"]
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == CALLER
    assert f"{root.context.span_id:016x}" in str(answer.getheader("traceparent"))
    about = dict(root.attributes or {})
    assert about["http.response.status_code"] == 200
    assert about[tracing.OPERATION] == "chat"
    assert about[tracing.MODEL] == "rag_app"
    assert about[tracing.FINISH_REASONS] == ("stop",)
    names = {span.name for span in under(spans, root)}
    assert {"Retriever.aretrieve", "PromptSynthesizer.asynthesize"} <= names
    whole = [span.name for span in spans]
    assert any("aretrieve" in name for name in whole)
    assert any("asynthesize" in name for name in whole)
    assert any("embedding" in name.lower() for name in whole)
    ends = [span.end_time or 0 for span in spans]
    assert 0 not in ends
    assert max(ends) == root.end_time, "all ended with the stream"
