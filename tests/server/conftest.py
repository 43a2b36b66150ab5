"""A server in a thread of its own, and the real clients that people use."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from openai import OpenAI
from opentelemetry.sdk.trace import TracerProvider

from rag_app import app as wiring
from rag_app.config.sections import Config
from rag_app.load import override
from rag_app.server.application import make_application
from rag_app.server.service import Service
from tests.test_app import EchoLLM


class Running:
    """A server that answers on a free loopback port."""

    def __init__(self, application: Any, port: int, server: uvicorn.Server) -> None:
        self.port = port
        self._server = server
        self.url = f"http://127.0.0.1:{port}"
        self.service: Service = application.state.service
        self._clients: list[OpenAI] = []

    def openai(self, key: str = "none") -> OpenAI:
        self._clients.append(OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0))
        return self._clients[-1]

    def ask_to_stop(self) -> None:
        """Do what uvicorn does at SIGTERM and Ctrl-C."""
        # Not its `handle_exit`, by which sse-starlette ends the streams of the whole process.
        self._server.should_exit = True

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def http(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def serving(config: Config, provider: TracerProvider | None = None) -> Iterator[Running]:
    application = make_application(config, provider)
    listener = socket.create_server((config.server.host, 0))
    server = uvicorn.Server(
        uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=10)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    running = Running(application, listener.getsockname()[1], server)
    try:
        yield running
    finally:
        running.close()
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what comes a moment after an answer's last byte."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


Serve = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def serve() -> Serve:
    """Serve a configuration with other values of some keys ("section__key")."""

    def begin(config: Config, **changes: Any) -> AbstractContextManager[Running]:
        named = {key.replace("__", "."): value for key, value in changes.items()}
        return serving(override(config, named) if named else config)

    return begin


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> EchoLLM:
    """An `EchoLLM` in place of the configured backend."""
    echo = EchoLLM()
    monkeypatch.setattr(wiring, "build_llm", lambda _section: echo)
    return echo


@pytest.fixture
def running(ingested: Config) -> Iterator[Running]:
    """A server of the three documents; answers are quoted."""
    with serving(ingested) as server:
        yield server


@pytest.fixture
def echoing(ingested: Config, llm: EchoLLM) -> Iterator[Running]:
    """A server of the three documents; the `EchoLLM` answers."""
    with serving(override(ingested, {"llm.backend": "vllm-server"})) as server:
        yield server
