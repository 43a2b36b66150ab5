"""Servers that accept and never answer, or never end: a request ends all the same."""

import asyncio
import gzip
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from rag_app.errors import LLMError
from rag_app.llms import build_llm, replicas
from rag_app.llms.replicas import Replicas
from rag_app.llms.transport import AsyncReplicaTransport, ReplicaTransport
from tests.llms.conftest import section
from tests.llms.servers import FINE, JSON, model_server, serving, talking

GUARD = 20.0
"""Seconds after which something hangs; what is tested here ends within one or two."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

ways = pytest.mark.parametrize("way", ["sync", "async"])


def hang(connection: socket.socket, _: str) -> None:
    connection.recv(1)


def drip(connection: socket.socket, piece: bytes) -> None:
    while True:
        connection.sendall(piece)
        time.sleep(0.05)


def ask(
    urls: list[str],
    *,
    times: int = 1,
    timeout: float = 0.5,
    deadline: float = 8.0,
    way: str = "sync",
    known: Replicas | None = None,
    most_bytes: int = 1_000_000,
) -> list[Any]:
    known = known or Replicas(urls, 0, has_key=False, deadline=deadline, most_bytes=most_bytes)
    url = f"{known.roots[0]}/v1/chat/completions"
    if way == "sync":
        with httpx.Client(transport=ReplicaTransport(known), timeout=timeout) as client:
            return [client.post(url, json={}).content for _ in range(times)]

    async def aask() -> list[Any]:
        transport = AsyncReplicaTransport(known)
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
            return [(await client.post(url, json={})).content for _ in range(times)]

    return asyncio.run(aask())


@ways
def test_addresses_as_people_write_them(way: str) -> None:
    with serving(lambda n: FINE) as (url, seen):
        ask([url.replace("127.0.0.1", "LOCALHOST").replace("/v1", "/V2/v1")], way=way)
        assert seen == ["/V2/v1/chat/completions"]
    for url, root in {
        "http://Example.ORG:80/v1/": "http://example.org",
        "https://example.org:443/v1": "https://example.org",
        "HTTP://h:8000": "http://h:8000",
    }.items():
        assert Replicas([url], 0, has_key=False, deadline=1.0).roots == [root]


@ways
def test_a_replica_that_never_answers_is_avoided_and_probed(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = threading.Event()

    def talk(connection: socket.socket, _: str) -> None:
        if well.is_set():
            connection.sendall(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
        else:
            hang(connection, "")

    with talking(talk) as (hung, asked_hung), serving(lambda n: FINE) as (good, asked_good):
        known = Replicas([hung, good], 0, has_key=False, deadline=8.0)
        began = time.monotonic()
        assert ask([], times=4, way=way, known=known) == [FINE[2]] * 4
        assert time.monotonic() - began < 4 * 0.5, "only the first one waits"
        assert asked_hung == ["/v1/chat/completions"]
        assert len(asked_good) == 4
        monkeypatch.setattr(replicas, "AVOID_SECONDS", 0.0)
        monkeypatch.setattr("rag_app.llms.transport.CONNECT_SECONDS", 0.3)
        known.saw(known.roots[0], alive=False, silent=True)
        assert ask([], times=2, way=way, known=known) == [FINE[2]] * 2
        assert asked_hung[1:] == ["/health"], "probed, and not given a request"
        well.set()
        monkeypatch.setattr("rag_app.llms.transport.CONNECT_SECONDS", GUARD)
        assert b"{}" in ask([], times=2, way=way, known=known)
        assert asked_hung[2:] == ["/health", "/v1/chat/completions"]


@ways
def test_silence_after_the_headers_is_sent_elsewhere(way: str) -> None:
    def talk(connection: socket.socket, _: str) -> None:
        connection.sendall(EVENTS)
        hang(connection, "")

    with talking(talk) as (hung, _), serving(lambda n: FINE) as (good, _):
        assert ask([hung, good], way=way) == [FINE[2]]


@ways
def test_silence_in_the_middle_is_not_sent_elsewhere(way: str) -> None:
    def talk(connection: socket.socket, _: str) -> None:
        connection.sendall(EVENTS + b"data: 1\n\n")
        hang(connection, "")

    with talking(talk) as (hung, _), serving(lambda n: FINE) as (good, seen):
        with pytest.raises(LLMError, match=r"silent for 0\.5 seconds"):
            ask([hung, good], way=way)
        assert not seen


@ways
def test_two_silent_replicas_are_enough(way: str) -> None:
    with talking(hang) as (one, a), talking(hang) as (two, b), talking(hang) as (three, c):
        with pytest.raises(LLMError, match="silent for"):
            ask([one, two, three], way=way)
        assert len(a + b + c) == 2


def drip_headers(connection: socket.socket, _: str) -> None:
    connection.sendall(HEAD)
    drip(connection, b"X: y\r\n")


def drip_body(connection: socket.socket, _: str) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    drip(connection, b" ")


def drip_comments(connection: socket.socket, _: str) -> None:
    connection.sendall(EVENTS)
    drip(connection, b": still there\n\n")


def drip_error(connection: socket.socket, _: str) -> None:
    connection.sendall(HEAD.replace(b"200 OK", b"500 No") + b"Content-Length: 1000000\r\n\r\n")
    drip(connection, b" ")


@ways
@pytest.mark.parametrize("talk", [drip_headers, drip_body, drip_comments, drip_error])
def test_whatever_drips_has_a_deadline(
    talk: Callable[[socket.socket, str], None], way: str
) -> None:
    with talking(talk) as (url, _):
        began = time.monotonic()
        with pytest.raises(LLMError, match=r"within 1 seconds(.|\n)*llm\.deadline"):
            ask([url], deadline=1.0, way=way)
        assert time.monotonic() - began < GUARD


@ways
def test_an_answer_without_end_is_cut_off(way: str) -> None:
    sent = 0

    def talk(connection: socket.socket, _: str) -> None:
        nonlocal sent
        connection.sendall(EVENTS)
        while True:
            connection.sendall(b"data: 1\n\n" * 10_000)
            sent += 90_000

    with talking(talk) as (url, _):
        with pytest.raises(LLMError, match="longer than 1,000,000 bytes"):
            ask([url], way=way)
        assert sent < 20_000_000


def test_a_compressed_answer_is_refused() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    with (
        serving(lambda n: (200, {**JSON, "Content-Encoding": "gzip"}, bomb)) as (url, _),
        pytest.raises(LLMError, match="compressed"),
    ):
        ask([url])


@pytest.mark.parametrize("path", ["/v1/models", "/tokenize"])
def test_a_list_of_models_without_end(path: str) -> None:
    def talk(connection: socket.socket, asked: str) -> None:
        if asked == path:
            connection.sendall(HEAD + b"\r\n")
            while True:
                connection.sendall(b"[" * 1_000_000)
        body = b'{"data": [{"id": "m", "max_model_len": 4096}]}'
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with talking(talk) as (url, _), pytest.raises(LLMError, match="longer than"):
        build_llm(section(backend="vllm-server", base_url=url))


def test_a_busy_server_says_when_to_come_back() -> None:
    later = {**JSON, "Retry-After": "30"}
    with (
        serving(lambda n: (429, later, b'{"error": {"message": "full"}}')) as (url, _),
        pytest.raises(LLMError, match="429: full; it asks to wait 30 seconds"),
    ):
        ask([url])
    assert replicas.asked_wait({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    assert (replicas.asked_wait({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) or 0) > 1e9
    assert replicas.asked_wait({"retry-after": "soon"}) is None


def test_leaving_a_batch_does_not_wait_for_its_calls() -> None:
    hung = threading.Event()

    def reply(prompt: str) -> str:
        if prompt == "hang":
            hung.wait(GUARD)
        return "done"

    with model_server(reply) as (url, _):
        llm = build_llm(section(backend="vllm-server", base_url=url, concurrency=3))
        replies = llm.generate_each(["quick", "hang", "hang", "hang"])
        assert next(replies)[0] == 0
        began = time.monotonic()
        replies.close()
        assert time.monotonic() - began < GUARD / 2
        assert llm.complete("another").text == "done", "only that batch's calls are broken off"
        hung.set()
        llm.close()


def test_interrupted_while_the_server_hangs() -> None:
    program = textwrap.dedent("""
        import sys
        from rag_app.config.sections import LLMSection
        from rag_app.llms import build_llm
        llm = build_llm(LLMSection(backend="vllm-server", base_url=sys.argv[1]))
        try:
            for index, reply in llm.generate_each(["hang"] * 20):
                pass
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    hung = threading.Event()

    def reply(_: str) -> str:
        hung.wait(60)
        return ""

    with model_server(reply) as (url, prompts):
        command = [sys.executable, "-c", program, url]
        process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while len(prompts) < 16 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=GUARD)
        finally:
            process.kill()
            hung.set()
        assert process.returncode == 130, said.decode()


def test_a_forked_process_asks_by_itself() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    with model_server(lambda prompt: prompt.upper()) as (url, _):
        llm = build_llm(section(backend="vllm-server", base_url=url))
        assert llm.complete("parent").text == "PARENT"
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if llm.complete("child").text == "CHILD" else 1)
            finally:
                os._exit(2)
        deadline = time.monotonic() + GUARD
        done, status = 0, 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert (done, status) == (child, 0)
        llm.close()
