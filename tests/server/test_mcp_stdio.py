"""``rag-app mcp`` as clients start it: its own process, asked over standard input and output."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

import rag_app
from rag_app.config.sections import Config
from rag_app.ingestion.run import ingest
from rag_app.milvus.store import open_store
from tests.conftest import MakeConfig, make_files
from tests.server.test_mcp import GREETING, call, failure

ROOT = Path(rag_app.__file__).parents[1]


def command(config: Config, *arguments: str) -> list[str]:
    database = f"vector_store.uri={config.vector_store.uri}"
    runtime = "embedding.runtime=torch"
    return [
        *(sys.executable, "-c", "from rag_app.cli import main; main(prog_name='rag-app')"),
        *("--set", database, "--set", runtime, "mcp", *arguments),
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def parameters(config: Config, *arguments: str) -> StdioServerParameters:
    first, *rest = command(config, *arguments)
    return StdioServerParameters(command=first, args=rest, env=environment())


@pytest.mark.usefixtures("real_embedder")
async def test_program_asks_and_ingests_beside_this_process(
    docs: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    ingest(config, [docs])
    # The database stays this process's: the other one has to attach to it.
    store = open_store(config)
    outside = make_files(tmp_path / "elsewhere", {"secret.txt": "A password."})
    async with Client(parameters(config, "--write")) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        annotations = tools["ingest"].annotations
        assert annotations is not None
        assert not annotations.read_only_hint
        assert not annotations.destructive_hint
        (found, *_) = (await call(client, "search", query="What does bread need?"))["results"]
        assert found["url"] == (docs / "kitchen/bread.txt").as_uri()
        told = await call(client, "answer", question="What does bread need?")
        assert told["sources"][0]["url"].startswith("file:///")
        make_files(docs, {"kitchen/soup.txt": "Soup needs onions and water."})
        report = await call(client, "ingest", path=str(docs / "kitchen"))
        assert report["new"], report
        refused = await failure(client, "ingest", path=str(outside))
        assert "is in no folder that may be ingested" in refused
        assert "--folder" in refused
    assert "onions" in " ".join(text for *_, text in store.texts())


@pytest.fixture
def process(make_config: MakeConfig) -> Iterator[subprocess.Popen[str]]:
    """A server that was greeted and has greeted; there is nothing in its collection yet."""
    started = subprocess.Popen(
        command(make_config()),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            say(started, GREETING)
            yield started
        finally:
            started.kill()


def say(process: subprocess.Popen[str], message: dict[str, Any]) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{json.dumps(message)}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_ends_with_its_input(process: subprocess.Popen[str]) -> None:
    search = {"name": "search", "arguments": {"query": "bread"}}
    told = say(process, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": search})
    assert told["result"]["isError"]
    assert "rag-app ingest" in told["result"]["content"][0]["text"], "the remedy is the user's"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_ends_when_told_to(request: pytest.FixtureRequest, process: subprocess.Popen[str]) -> None:
    # Both end it in the same way.
    number = signal.SIGTERM if request.config.getoption("--slow") else signal.SIGINT
    process.send_signal(number)  # its input stays open
    assert process.wait(60) == 130
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read() == ""
    assert process.stderr.read() == "interrupted\n"


def test_folders_are_for_writing_only(run: Any, tmp_path: Path) -> None:
    refused = run("mcp", "--folder", str(tmp_path))
    assert refused.exit_code == 2
    assert "add --write" in refused.stderr
