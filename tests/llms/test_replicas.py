"""Servers that are down, busy, silent or none at all. Nothing here imitates what vLLM answers."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx
import pytest

from rag_app.errors import LLMError
from rag_app.llms import build_llm
from rag_app.llms.replicas import Replicas
from rag_app.llms.transport import AsyncReplicaTransport, ReplicaTransport
from tests.llms.conftest import section
from tests.llms.servers import FINE, JSON, Answer, serving


def post(urls: list[str], retries: int = 2, deadline: float = 5.0, way: str = "sync") -> Any:
    replicas = Replicas(urls, retries, has_key=False, deadline=deadline)
    url = f"{replicas.roots[0]}/v1/chat/completions"
    if way == "sync":
        with httpx.Client(transport=ReplicaTransport(replicas), timeout=5.0) as client:
            return [client.post(url, json={"n": n}).json() for n in range(2)]

    async def ask() -> list[Any]:
        transport = AsyncReplicaTransport(replicas)
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            return [(await client.post(url, json={"n": n})).json() for n in range(2)]

    return asyncio.run(ask())


ways = pytest.mark.parametrize("way", ["sync", "async"])


@ways
@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server_is_asked_again(status: int, way: str) -> None:
    with serving(lambda n: FINE if n else (status, JSON, b"{}")) as (url, seen):
        assert post([url], way=way) == [{"fine": True}] * 2
        assert len(seen) == 3


@ways
@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_refused_request_is_not_sent_again(status: int, way: str) -> None:
    body = json.dumps({"error": {"message": "not like this"}}).encode()
    with serving(lambda n: (status, JSON, body)) as (url, seen):
        with pytest.raises(LLMError, match=str(status)):
            post([url], way=way)
        assert len(seen) == 1


@ways
def test_retries_end(way: str) -> None:
    body = json.dumps({"error": {"message": "engine died"}}).encode()
    with serving(lambda n: (500, JSON, body)) as (url, seen):
        with pytest.raises(LLMError, match="500: engine died"):
            post([url], retries=1, way=way)
        assert len(seen) == 2


def test_retry_after_is_obeyed() -> None:
    busy: Answer = (429, {**JSON, "Retry-After": "1"}, b"{}")
    with serving(lambda n: FINE if n else busy) as (url, _):
        began = time.monotonic()
        post([url])
        assert time.monotonic() - began >= 1.0


def test_retries_do_not_outlast_the_deadline() -> None:
    busy: Answer = (429, {**JSON, "Retry-After": "60"}, b"{}")
    with serving(lambda n: busy) as (url, _):
        began = time.monotonic()
        with pytest.raises(LLMError, match="429"):
            post([url], deadline=2.0)
        assert time.monotonic() - began < 2.0


@ways
def test_requests_are_spread(way: str) -> None:
    with serving(lambda n: FINE) as (one, seen_one), serving(lambda n: FINE) as (two, seen_two):
        post([one, two], way=way)
        assert seen_one == seen_two == ["/v1/chat/completions"]


@ways
def test_past_a_dead_and_a_failing_replica(way: str) -> None:
    with (
        serving(lambda n: FINE) as (good, seen),
        serving(lambda n: (503, JSON, b"{}")) as (failing, _),
    ):
        urls = ["http://127.0.0.1:9/v1", failing, good]
        assert post(urls, retries=0, way=way) == [{"fine": True}] * 2
        assert len(seen) == 2


def build(url: str, **values: Any) -> Any:
    return build_llm(section(**{"backend": "vllm-server", "base_url": url, **values}))


def test_web_page_instead_of_a_server() -> None:
    page = b"<html><title>Welcome to nginx!</title></html>"
    for status in (200, 404):
        with (
            serving(lambda n, s=status: (s, {"Content-Type": "text/html"}, page)) as (url, _),  # type: ignore[misc]
            pytest.raises(LLMError, match=r"web page \('Welcome to nginx!'.*\n.*base_url"),
        ):
            build(url)


@pytest.mark.parametrize("body", [b"not json", b"[1, 2]", b'{"data": []}', b'{"data": 1}', b"{}"])
def test_answers_that_are_none(body: bytes) -> None:
    with serving(lambda n: (200, JSON, body)) as (url, _), pytest.raises(LLMError, match=url[:-3]):
        build(url)


def test_another_servers_model_has_no_window() -> None:
    body = json.dumps({"data": [{"id": "gpt", "object": "model"}]}).encode()
    with serving(lambda n: (200, JSON, body)) as (url, _), pytest.raises(LLMError, match="window"):
        build(url)


def test_silent_server() -> None:
    quiet = threading.Event()

    def answer(_: int) -> Answer:
        quiet.wait(10)
        return FINE

    with serving(answer) as (url, _):
        began = time.monotonic()
        with pytest.raises(LLMError, match="silent for 1 seconds"):
            build(url, timeout=1.0)
        assert time.monotonic() - began < 3
        quiet.set()


def test_openai_key_of_the_environment_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private")
    body = json.dumps({"data": [{"id": "m", "max_model_len": 1024}]}).encode()
    models = lambda n: (200, JSON, body) if n == 0 else (200, JSON, b'{"count": 3}')  # noqa: E731
    with serving(models) as (url, _):
        llm = build(url, endpoint="completion")
        assert llm.api_key != "sk-private"
        llm.close()
