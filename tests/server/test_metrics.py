"""``/metrics``, read by Prometheus's own parser; ``/health`` and ``/ready``."""

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rag_app.config.sections import Config
from rag_app.config.server import ServerSection
from rag_app.errors import VectorStoreError
from rag_app.server.admission import Admission
from rag_app.server.keys import KeyFile
from rag_app.server.metrics import Metrics, RequestMetrics
from rag_app.server.readiness import Readiness
from tests.conftest import FakeEmbedder, MakeConfig
from tests.server.conftest import Running, Serve
from tests.test_app import NOBODY

QUESTION: Any = {"model": "rag_app", "messages": [{"role": "user", "content": "What is HNSW?"}]}


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_stages_and_rows_are_counted(running: Running) -> None:
    route = "/v1/chat/completions"
    with running.http() as client:
        for _ in range(3):
            client.post("/v1/chat/completions", json=QUESTION)
        client.post("/v1/chat/completions", json={})
        client.get("/anything/else")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    assert found["rag_app_requests_total", ("POST", route, "200")] == 3
    assert found["rag_app_requests_total", ("POST", route, "400")] == 1
    assert found["rag_app_requests_total", ("GET", "other", "404")] == 1
    assert found["rag_app_request_seconds_count", (route,)] == 4
    for stage in ("retrieve", "first_token", "total"):
        assert found["rag_app_stage_seconds_count", (stage,)] == 3
        assert found["rag_app_stage_seconds_sum", (stage,)] > 0
    assert found["rag_app_rows", ("rag_app",)] > 0
    assert found["rag_app_in_flight", ()] == 0
    assert found["rag_app_prefix_cache_tokens", ("hit",)] == 0


def test_metrics_are_for_admins(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    reader, admin = keys.add("reader"), keys.add("admin", "admin")
    with serve(ingested) as server:
        for key, status in ((reader, 403), (admin, 200), ("none", 401)):
            with server.http(Authorization=f"Bearer {key}") as client:
                assert client.get("/metrics").status_code == status
        with server.http() as client:
            assert client.get("/health").status_code == 200


def test_ready_names_what_is_not(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with running.http() as client:
        assert client.get("/ready").json() == {"status": "ok", "failed": {}}
        store = running.service._root.store

        def fail() -> int:
            raise VectorStoreError("gone from /secret/place")

        monkeypatch.setattr(type(store), "count", lambda _self: fail())
        answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["failed"] == {"collection": "failed"}


def test_server_is_ready_before_anything_was_ingested(
    make_config: MakeConfig, fake_embedder: FakeEmbedder, serve: Serve
) -> None:
    with serve(make_config()) as server, server.http() as client:
        assert client.get("/ready").json() == {"status": "ok", "failed": {}}


def test_model_server_that_is_away_is_named(ingested: Config, serve: Serve) -> None:
    away = {"llm__backend": "vllm-server", "llm__base_url": NOBODY, "llm__retries": 0}
    with serve(ingested, **away) as server, server.http() as client:
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["failed"] == {"llm": "failed"}


async def test_part_that_hangs_is_asked_once_and_named_in_time() -> None:
    asked: list[int] = []
    go = threading.Event()

    def hang() -> dict[str, str]:
        asked.append(1)
        go.wait(30)
        return {}

    ready = Readiness(hang, deadline=0.05)
    answers = await asyncio.gather(*(ready() for _ in range(5)))
    assert answers == [{"parts": "no answer within 0.05 s"}] * 5
    assert len(asked) == 1
    go.set()


async def test_methods_that_clients_make_up_are_one() -> None:
    metrics = Metrics(Admission(ServerSection()))

    async def nothing(*_: Any) -> Any:
        pass

    counted = RequestMetrics(nothing, metrics)
    for method in ("FOO1", "FOO2", "GET"):
        await counted({"type": "http", "method": method}, nothing, nothing)
    text = metrics.render([], (0, 0)).decode()
    assert "FOO" not in text
    assert samples(text)["rag_app_requests_total", ("other", "other", "500")] == 2
