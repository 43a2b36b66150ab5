"""`rag-app serve` over a real vLLM engine, and over a real vLLM server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rag_app.config.sections import Config
from rag_app.load import override
from tests.llms.conftest import ENGINE, KEY, Server
from tests.server.conftest import Running, serving, wait_for

QUESTION: Any = [{"role": "user", "content": "What does bread need?"}]


@pytest.fixture(params=["vllm", "vllm-server"])
def served(request: pytest.FixtureRequest, ingested: Config, llama: Path) -> Iterator[Running]:
    changes: dict[str, Any] = {
        "llm.backend": request.param,
        "llm.temperature": 0.0,
        "llm.max_tokens": 16,
    }
    if request.param == "vllm":
        request.getfixturevalue("engine")  # the same configuration: it is shared
        changes |= {"llm.model": str(llama), "llm.engine": ENGINE, "llm.timeout": 60.0}
    else:
        server: Server = request.getfixturevalue("vllm_server")
        changes |= {"llm.base_url": server.url, "llm.api_key": KEY}
    with serving(override(ingested, changes)) as running:
        yield running


def test_streamed_answer_is_the_whole_one_and_is_counted(served: Running) -> None:
    client = served.openai()
    whole = client.chat.completions.create(model="rag_app", messages=QUESTION)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 50
    assert whole.usage.completion_tokens == 16
    *pieces, usage = client.chat.completions.create(
        model="rag_app", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert usage.usage == whole.usage
    short = client.chat.completions.create(model="rag_app", messages=QUESTION, max_tokens=4)
    assert short.usage is not None
    assert short.usage.completion_tokens == 4


def test_follow_up_and_small_talk_go_through_the_model(served: Running) -> None:
    client = served.openai()
    answer = client.chat.completions.create(
        model="rag_app",
        messages=[
            *QUESTION,
            {"role": "assistant", "content": "Flour [1]."},
            {"role": "user", "content": "And salt?"},
        ],
    )
    about = (answer.model_extra or {})["rag"]
    assert about["question"] != "And salt?"
    assert about["timings_ms"]["condense"] > 0
    greeted = client.chat.completions.create(
        model="rag_app", messages=[{"role": "user", "content": "Hello!"}]
    )
    assert greeted.choices[0].message.content
    assert (greeted.model_extra or {})["citations"] == []


def test_client_that_goes_away_leaves_the_model(served: Running) -> None:
    body = {
        "model": "rag_app",
        "messages": QUESTION,
        "stream": True,
        "max_tokens": 300,
    }
    with served.http() as client:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            while '"content": ""' in (line := next(lines)) or not line.startswith("data:"):
                pass
            assert running_requests(served) == 1
        wait_for(lambda: running_requests(served) == 0)
        wait_for(lambda: served.service.admission.in_flight == 0)


def running_requests(served: Running) -> int:
    """Count what the model is working on, as it says itself."""
    llm: Any = served.service._root.llm
    if hasattr(llm, "unfinished"):
        return int(llm.unfinished())
    url = served.service.config.llm.base_url.replace("/v1", "/metrics")
    for line in httpx.get(url, trust_env=False).text.splitlines():
        if line.startswith("vllm:num_requests_running"):
            return int(float(line.rpartition(" ")[2]))
    raise AssertionError


def test_metrics_have_tokens_and_the_prefix_cache(served: Running) -> None:
    for _ in range(2):
        served.openai().chat.completions.create(model="rag_app", messages=QUESTION)
    with served.http() as client:
        text = client.get("/metrics").text
    assert 'rag_app_tokens_total{kind="completion"} 32.0' in text
    hits = next(
        line
        for line in text.splitlines()
        if line.startswith('rag_app_prefix_cache_tokens{result="hit"}')
    )
    assert float(hits.rpartition(" ")[2]) > 0
