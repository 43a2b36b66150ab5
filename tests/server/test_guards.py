"""What stands before every route, and what happens when too much is asked."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from llama_index.core.llms import CompletionResponse, CompletionResponseAsyncGen
from pydantic import PrivateAttr

from rag_app import RagApp
from rag_app import app as wiring
from rag_app.config.sections import Config
from rag_app.config.server import ServerSection
from rag_app.load import override
from rag_app.milvus.collection import CollectionStore
from rag_app.server.access import ANYONE
from rag_app.server.admission import Admission
from rag_app.server.errors import RequestError
from rag_app.server.service import Service
from tests.server.conftest import Running, Serve, serving, wait_for
from tests.test_app import EchoLLM

QUESTION: Any = {"model": "rag_app", "messages": [{"role": "user", "content": "What is HNSW?"}]}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:9", 200),
        ("docs.example.org", 200),
        ("evil.example.com", 421),
        ("127.0.0.1.evil.example.com", 421),
        ("localhost.evil.example.com:80", 421),
        ("user@evil.example.com", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_only_names_of_this_server_are_answered(
    ingested: Config, serve: Serve, host: str, status: int
) -> None:
    with serve(ingested, server__allowed_hosts=["docs.example.org"]) as server, server.http() as c:
        assert c.get("/health", headers={"Host": host}).status_code == status


def test_pages_of_elsewhere_may_not_call(ingested: Config, serve: Serve) -> None:
    named = "https://wiki.example.org"
    with serve(ingested, server__cors_origins=[named]) as server, server.http() as client:
        own = {"Origin": server.url}
        assert client.get("/health", headers=own).status_code == 200
        assert client.get("/health", headers={"Origin": "https://evil.org"}).status_code == 403
        for nobody in ("null", "", "http://["):
            assert client.get("/health", headers={"Origin": nobody}).status_code == 403
        allowed = client.get("/health", headers={"Origin": named})
        assert allowed.headers["access-control-allow-origin"] == named


def test_cors_is_off_unless_named(running: Running) -> None:
    with running.http() as client:
        answer = client.options(
            "/v1/models",
            headers={"Origin": "https://evil.org", "Access-Control-Request-Method": "GET"},
        )
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_large_bodies_are_refused_before_they_are_read(ingested: Config, serve: Serve) -> None:
    with serve(ingested, server__max_body_mb=0.01) as server, server.http() as client:
        said = client.post("/v1/chat/completions", content=b"x" * 20_000)
        assert said.status_code == 413
        assert said.json()["error"]["code"] == "too_large"

        def unsaid() -> Any:
            for _ in range(50):
                yield b"x" * 1000

        assert client.post("/v1/chat/completions", content=unsaid()).status_code == 413
        assert client.post("/v1/chat/completions", json=QUESTION).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": "\\ud800"}', b"\xff\xfe"])
def test_what_is_no_request_is_an_error_in_openais_form(running: Running, body: bytes) -> None:
    with running.http() as client:
        answer = client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_unknown_routes_and_methods_are_errors_in_openais_form(running: Running) -> None:
    with running.http() as client:
        assert client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
        assert client.get("/v1/chat/completions").status_code == 405
        assert client.get("/docs").status_code == 404
        assert client.get("/openapi.json").status_code == 200


def test_no_traceback_or_path_leaves(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = running.service._root

    def fail(**_: Any) -> None:
        raise ValueError("/secret/path")

    monkeypatch.setattr(app, "query_engine", fail)
    with running.http() as client:
        answer = client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "/secret/path" in caplog.text


async def test_places_waiting_and_refusal() -> None:
    admission = Admission(ServerSection(max_in_flight=1, max_queue=1, deadline=5.0))
    first = await admission.enter()
    second = asyncio.ensure_future(admission.enter())
    await asyncio.sleep(0)
    with pytest.raises(RequestError) as raised:
        await admission.enter()
    assert raised.value.status == 429
    assert raised.value.headers["Retry-After"]
    assert (admission.in_flight, admission.waiting) == (1, 1)
    first.leave()
    first.leave()
    with await second:
        assert (admission.in_flight, admission.waiting) == (1, 0)
    assert admission.in_flight == 0


async def test_waiting_ends_at_the_deadline() -> None:
    admission = Admission(ServerSection(max_in_flight=1, max_queue=1, deadline=0.05))
    with await admission.enter():
        with pytest.raises(TimeoutError):
            await admission.enter()
        assert admission.waiting == 0


class SlowLLM(EchoLLM):
    """Writes until it is told to stop, or that it is enough; knows whether it was."""

    _began: threading.Event = PrivateAttr(default_factory=threading.Event)
    _ended: threading.Event = PrivateAttr(default_factory=threading.Event)
    _enough: threading.Event = PrivateAttr(default_factory=threading.Event)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseAsyncGen:
        return self._endless()

    async def _endless(self) -> CompletionResponseAsyncGen:
        self._began.set()
        try:
            while not self._enough.is_set():
                yield CompletionResponse(text="x", delta="x ")
                await asyncio.sleep(0.01)
        finally:
            self._ended.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowLLM:
    llm = SlowLLM()
    monkeypatch.setattr(wiring, "build_llm", lambda _section: llm)
    return llm


@contextmanager
def asking(server: Running, **fields: Any) -> Iterator[None]:
    """Ask as a client that leaves at the end of the block."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = httpx.Request("POST", server.url, json={**QUESTION, **fields}).content
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        yield


@pytest.mark.parametrize("streams", [True, False])
def test_client_that_goes_away_ends_its_answer(
    ingested: Config, slow: SlowLLM, streams: bool
) -> None:
    with serving(override(ingested, {"llm.backend": "vllm-server"})) as server:
        with asking(server, stream=streams):
            assert slow._began.wait(30)
            assert server.service.admission.in_flight == 1
        assert slow._ended.wait(10)
        wait_for(lambda: server.service.admission.in_flight == 0)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """Let a method hang till the test has ended; returns what tells that it was called."""
    go = threading.Event()

    def hang(owner: type, name: str) -> threading.Event:
        called = threading.Event()
        own = getattr(owner, name)

        def hung(*args: Any, **kwargs: Any) -> Any:
            called.set()
            go.wait(60)
            return own(*args, **kwargs)

        monkeypatch.setattr(owner, name, hung)
        return called

    yield hang
    go.set()


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"), [(CollectionStore, "find"), (Service, "_open")], ids=["search", "opening"]
)
def test_client_that_goes_away_before_the_first_word_is_noticed(
    running: Running,
    hanging: Callable[..., threading.Event],
    owner: type,
    name: str,
    streams: bool,
) -> None:
    called = hanging(owner, name)
    with asking(running, stream=streams):
        assert called.wait(30)
        assert running.service.admission.in_flight == 1
    wait_for(lambda: running.service.admission.in_flight == 0, 10)


def test_opening_is_within_the_deadline_and_holds_up_nobody(
    ingested: Config, serve: Serve, hanging: Callable[..., threading.Event]
) -> None:
    called = hanging(Service, "_open")
    with serve(ingested, server__deadline=0.5) as server, server.http() as client:
        asked: list[tuple[str, Any]] = [
            ("/v1/chat/completions", QUESTION),
            ("/v1/chat/completions", {**QUESTION, "stream": True}),
            ("/v1/vector_stores/rag_app/search", {"query": "What is HNSW?"}),
            ("/v1/embeddings", {"model": "rag_app", "input": "HNSW"}),
        ]
        for path, body in asked:
            assert client.post(path, json=body).status_code == 504, path
        assert called.is_set()
        assert client.get("/health").status_code == 200
        assert server.service.admission.in_flight == 0


async def test_collection_is_opened_once_for_all_who_wait(
    ingested: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(ingested)
    opened: list[str] = []
    own = Service._open

    def counted(self: Service, name: str) -> RagApp | None:
        opened.append(name)
        return own(self, name)

    monkeypatch.setattr(Service, "_open", counted)
    try:
        first = asyncio.ensure_future(service.app("rag_app", ANYONE))
        await asyncio.sleep(0)
        others = asyncio.gather(*(service.app("rag_app", ANYONE) for _ in range(5)))
        await asyncio.sleep(0)
        first.cancel()  # takes it from nobody
        assert set(map(id, await others)) == {id(await service.app("rag_app", ANYONE))}
        assert opened == ["rag_app"]
        for missing in ("other", "no name"):
            with pytest.raises(RequestError, match="there is no model"):
                await service.app(missing, ANYONE)
    finally:
        service.close()


def test_lists_and_documents_take_a_place(ingested: Config, serve: Serve) -> None:
    paths = [
        "/v1/models",
        "/v1/models/rag_app",
        "/v1/files",
        "/v1/vector_stores",
        "/v1/vector_stores/rag_app",
        "/v1/vector_stores/rag_app/files",
        "/v1/vector_stores/rag_app/files/file-0",
        "/documents/0",
    ]
    with serve(ingested, server__max_queue=0) as server, server.http() as client:
        for path in paths:
            assert client.get(path).status_code in {200, 404}, path
        server.service.admission._room = asyncio.Semaphore(0)
        for path in paths:
            assert client.get(path).status_code == 429, path
        assert client.get("/health").status_code == 200


def test_answers_under_way_end_before_the_server_does(ingested: Config, slow: SlowLLM) -> None:
    def lets_in() -> bool:
        try:
            return httpx.get(f"{server.url}/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    asked = {**QUESTION, "stream": True}
    with (
        serving(override(ingested, {"llm.backend": "vllm-server"})) as server,
        server.http() as client,
        client.stream("POST", "/v1/chat/completions", json=asked) as answer,
    ):
        assert slow._began.wait(30)
        server.ask_to_stop()
        wait_for(lambda: not lets_in())
        assert not slow._ended.is_set()
        slow._enough.set()
        assert [line for line in answer.iter_lines() if line][-1] == "data: [DONE]"


def test_answer_that_takes_too_long_is_given_up(ingested: Config, slow: SlowLLM) -> None:
    changes = {"llm.backend": "vllm-server", "server.deadline": 1.0}
    with serving(override(ingested, changes)) as server, server.http() as client:
        answer = client.post("/v1/chat/completions", json=QUESTION)
        assert answer.status_code == 504
        streamed = client.post("/v1/chat/completions", json={**QUESTION, "stream": True})
        assert '"code": "deadline"' in streamed.text.splitlines()[-2]
        wait_for(lambda: server.service.admission.in_flight == 0)


def test_too_many_questions_are_told_to_come_again(ingested: Config, slow: SlowLLM) -> None:
    changes: dict[str, Any] = {
        "llm.backend": "vllm-server",
        "server.deadline": 2.0,
        "server.max_in_flight": 1,
        "server.max_queue": 1,
    }
    with (
        serving(override(ingested, changes)) as server,
        server.http() as client,
        ThreadPoolExecutor(6) as threads,
    ):
        asked = [
            threads.submit(client.post, "/v1/chat/completions", json=QUESTION) for _ in range(6)
        ]
        answers = [each.result() for each in asked]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [429] * 4 + [504] * 2
    assert all(a.headers["retry-after"] for a in answers if a.status_code == 429)
