"""A real Milvus server for a file of tests, from scripts/start-milvus.sh, and a shared Lite.

Its ports are fixed, so only one runs on a machine: the processes that share the tests take turns.
"""

import fcntl
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_LITE = Path(sys.executable).with_name("milvus-lite")
SCRIPT = Path(__file__).parent.parent / "scripts" / "start-milvus.sh"


@dataclass
class MilvusServer:
    """A running server; `kill` takes it away in the middle, `start` brings it back."""

    folder: Path
    port: int
    uri: str = ""

    def start(self) -> None:
        started = subprocess.run(
            [str(SCRIPT), "start", str(self.folder), str(self.port)],
            capture_output=True,
            text=True,
            timeout=240,
        )
        if started.returncode:
            raise RuntimeError(started.stderr)
        self.uri = started.stdout.strip().splitlines()[-1]

    def kill(self) -> None:
        os.kill(int((self.folder / "server.pid").read_text()), 9)

    def stop(self) -> None:
        subprocess.run([str(SCRIPT), "stop", str(self.folder)], timeout=60, check=True)


@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the milvus wheel holds a server for x86-64 Linux only")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = MilvusServer(tmp_path_factory.mktemp("milvus"), port)
    with Path(tempfile.gettempdir(), "rag-app-tests-milvus.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["lite", "server"])
def store_overrides(request: pytest.FixtureRequest, here: Path) -> dict[str, str]:
    """Overrides of a configuration for an empty collection on each backend."""
    if request.param == "lite":
        return {"vector_store.uri": str(here / "milvus.db")}
    if not request.config.getoption("--slow") and not request.node.get_closest_marker("server"):
        pytest.skip("on a server with ./scripts/test.sh --slow: each flush takes it 3 s")
    server: MilvusServer = request.getfixturevalue("milvus_server")
    return {
        "vector_store.uri": server.uri,
        "retrieval.mode": "dense",  # it is older than Milvus's counting of words
        "vector_store.collection": f"test_{uuid.uuid4().hex[:12]}",
    }


@pytest.fixture(scope="module")
def shared_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a Milvus Lite that runs as a server of its own."""
    if not _LITE.exists():
        pytest.skip(f"there is no {_LITE}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("shared")
    options = ["--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [_LITE, "server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        until = time.monotonic() + 60
        while time.monotonic() < until and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.kill()
    shutil.rmtree(folder)
