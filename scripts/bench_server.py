#!/usr/bin/env python3
"""Measure what the server costs over calling `RagApp`, and what it does at once.

::

    python -m scripts.bench_server questions.jsonl --set vector_store.uri=storage/milvus.db

Asks the configured collection. First each question in turn, warm: `RagApp` called directly, and a
chat completion of a server in this process that shares its parts. Then a server in a process of its
own: seconds from start to ready, and searches a second at 1, 4, 16 and 32 clients, beside the bare
encoder with the same texts together. With ``--llm`` instead: answers of a tiny random Llama on
vLLM's own server, asked by 32 clients through this server and, with the prompts that this one
makes, directly; both in turns. Prints Markdown.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvicorn

from rag_app.app import RagApp
from rag_app.config.loader import parse_assignment
from rag_app.config.sections import Config
from rag_app.embedding.factory import build_embedder
from rag_app.load import load_config
from rag_app.questions import Question, read_questions
from rag_app.server.access import ANYONE
from rag_app.server.application import make_application
from rag_app.server.service import Service
from scripts.random_llama import make_llama

CLIENTS = (1, 4, 16, 32)
_SAYS_SOMETHING = re.compile(r'"content": ?"[^"]')
ANSWER_TOKENS = 64
ROUNDS = 5
"""Of each way to ask for answers; the medians are told."""


@contextmanager
def in_this_process(config: Config) -> Iterator[tuple[str, Service]]:
    """Serve in a thread; yield the URL and the parts."""
    application = make_application(config)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", application.state.service
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def overhead(config: Config, questions: Sequence[str]) -> tuple[float, float]:
    """Return median milliseconds of `RagApp` and of a chat completion, of the same questions."""
    name = config.vector_store.collection
    direct: list[float] = []
    served: list[float] = []
    with in_this_process(config) as (url, service), httpx.Client(base_url=url, timeout=60) as http:
        app = asyncio.run(service.app(name, ANYONE))
        engine = app.query_engine(streaming=False)

        def ask_directly(question: str) -> float:
            started = time.perf_counter()
            engine.query(question)
            return time.perf_counter() - started

        def ask_the_server(question: str) -> float:
            body = {"model": name, "messages": [{"role": "user", "content": question}]}
            started = time.perf_counter()
            http.post("/v1/chat/completions", json=body).raise_for_status()
            return time.perf_counter() - started

        for question in questions:  # warm: sentences of contexts are kept
            ask_directly(question)
        for place, question in enumerate(questions):
            ways = [(ask_directly, direct), (ask_the_server, served)]
            for ask, seconds in ways if place % 2 else reversed(ways):
                seconds.append(ask(question))
    return statistics.median(direct) * 1000, statistics.median(served) * 1000


@contextmanager
def in_its_own_process(options: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Serve in another process; yield the URL, and the seconds until it was ready."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "rag_app", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stderr is not None  # noqa: S101
    try:
        for line in process.stderr:
            if match := re.search(r"http://[^\s,]+", line):
                break
        else:
            raise SystemExit("the server did not start")
        with httpx.Client(base_url=match[0], timeout=60) as http:
            while http.get("/ready").status_code != 200:
                time.sleep(0.05)
        yield match[0], time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


async def searches_a_second(url: str, name: str, questions: Sequence[str], clients: int) -> float:
    """Return how many searches are answered in a second."""
    left = iter(questions)

    async def ask(http: httpx.AsyncClient) -> None:
        for question in left:
            body = {"query": question, "max_num_results": 5}
            (await http.post(f"/v1/vector_stores/{name}/search", json=body)).raise_for_status()

    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        started = time.perf_counter()
        await asyncio.gather(*(ask(http) for _ in range(clients)))
        return len(questions) / (time.perf_counter() - started)


@dataclass(frozen=True)
class Told:
    """What one round of answers told: tokens a second, and the median milliseconds to the first."""

    tokens: float
    first: float
    retrieval: float = 0.0


@contextmanager
def vllm_serving(folder: Path) -> Iterator[str]:
    """Serve a tiny Llama by vLLM's own server; yield its endpoint."""
    texts = [file.read_text(encoding="utf-8") for file in Path("docs").glob("*.md")]
    make_llama(folder, texts, window=4096)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    engine = {"dtype": "float32", "enforce_eager": True, "max_model_len": 4096}
    settings = {"model": folder, "base_url": url, **{f"engine.{k}": v for k, v in engine.items()}}
    command = [sys.executable, "-m", "rag_app", "llm", "serve"]
    for key, value in settings.items():
        command += ["--set", f"llm.{key}={str(value).lower() if value is True else value}"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
    try:
        while process.poll() is None:
            try:
                if httpx.get(url.replace("/v1", "/health"), trust_env=False).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            raise SystemExit(f"vLLM did not start:\n{(folder / 'log').read_text()[-2000:]}")
        yield url
    finally:
        process.terminate()
        process.wait()


def prompts_of(config: Config, questions: Sequence[str]) -> list[str]:
    """Render the prompts that the server makes of questions."""
    with RagApp(config) as app:
        batch = app.batch()
        found = batch.retriever.retrieve_each(questions)
        return [
            batch.synthesizer.pack(question, nodes).prompt
            for question, nodes in zip(questions, found, strict=True)
        ]


async def answers(url: str, model: str, prompts: Sequence[str], clients: int) -> Told:
    """Let clients stream an answer to each prompt."""
    left = iter(prompts)
    firsts: list[float] = []
    retrievals: list[float] = []
    tokens = 0

    async def ask(http: httpx.AsyncClient) -> None:
        nonlocal tokens
        for prompt in left:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "temperature": 0.0,
                "max_tokens": ANSWER_TOKENS,
            }
            started, first = time.perf_counter(), 0.0
            async with http.stream("POST", "/chat/completions", json=body) as answer:
                async for line in answer.raise_for_status().aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    # Only what is needed is parsed: the clients share the machine.
                    if not first and _SAYS_SOMETHING.search(line):
                        first = time.perf_counter() - started
                    if '"usage"' in line and '"completion_tokens"' in line:
                        tokens += json.loads(line[6:])["usage"]["completion_tokens"]
                    elif '"timings_ms"' in line:
                        retrievals.append(json.loads(line[6:])["rag"]["timings_ms"]["retrieve"])
            firsts.append(first)

    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as http:
        started = time.perf_counter()
        await asyncio.gather(*(ask(http) for _ in range(clients)))
        seconds = time.perf_counter() - started
    return Told(
        tokens / seconds,
        statistics.median(firsts) * 1000,
        statistics.median(retrievals) if retrievals else 0.0,
    )


def beside_vllm(
    options: Sequence[str], overrides: Mapping[str, object], questions: Sequence[str]
) -> None:
    """Measure answers of a model through this server and without it, and print both."""
    with TemporaryDirectory() as folder, vllm_serving(Path(folder)) as endpoint:
        more = {"backend": "vllm-server", "base_url": endpoint, "max_tokens": ANSWER_TOKENS}
        named = {f"llm.{key}": value for key, value in more.items()}
        config = load_config(overrides={**overrides, **named})
        prompts = prompts_of(config, questions)
        asked = [part for key, value in named.items() for part in ("--set", f"{key}={value}")]
        name, clients = config.vector_store.collection, CLIENTS[-1]
        with in_its_own_process([*options, *asked]) as (url, _):
            ways = {
                "vLLM's server": (endpoint, folder, prompts),
                "this server": (f"{url}/v1", name, questions),
            }
            told: dict[str, list[Told]] = {way: [] for way in ways}
            for number in range(ROUNDS + 1):
                for way in ways if number % 2 else reversed(ways):
                    target, model, texts = ways[way]
                    told[way].append(asyncio.run(answers(target, model, texts, clients)))
    for each in told.values():
        del each[0]  # the first one warms
    print(f"| {clients} clients, {len(questions)} answers a round | tokens/s | first token, ms |")
    print("|---|---|---|")
    for way, rounds in told.items():
        middle = [statistics.median(getattr(r, f) for r in rounds) for f in ("tokens", "first")]
        print(f"| {way} | {middle[0]:.0f} | {middle[1]:.0f} |")
    pairs = list(zip(*told.values(), strict=True))
    ratio = statistics.median(ours.tokens / theirs.tokens for theirs, ours in pairs)
    later = statistics.median(ours.first - theirs.first for theirs, ours in pairs)
    retrieval = statistics.median(ours.retrieval for _, ours in pairs)
    print(f"| in pairs | {ratio:.2f} of it (goal: .95) | {later:+.0f} (goal: +10) |")
    print(f"\nOf the first token's time {retrieval:.0f} ms are retrieval, which vLLM's has not.")


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", type=Path, help='JSON lines with a "question" each, or text')
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--number", type=int, default=200, help="questions asked (default: 200)")
    parser.add_argument("--llm", action="store_true", help="measure answers of a model instead")
    arguments = parser.parse_args()
    overrides = dict(parse_assignment(text) for text in arguments.set)
    config = load_config(overrides=overrides)
    name = config.vector_store.collection
    lines = arguments.questions.read_text(encoding="utf-8").splitlines()
    read = read_questions(lines, arguments.questions.name)
    questions = [each.text for each in read if isinstance(each, Question)][: arguments.number]

    options = [part for text in arguments.set for part in ("--set", text)]
    if arguments.llm:
        beside_vllm(options, overrides, questions)
        return
    direct, served = overhead(config, questions)
    print(f"| {len(questions)} questions, one at a time | median ms |\n|---|---|")
    print(f"| `RagApp` | {direct:.1f} |\n| chat completion | {served:.1f} |")
    print(f"| overhead | {served - direct:.1f} |\n")

    embedder = build_embedder(config.embedding)
    embedder.embed_queries(questions)
    started = time.perf_counter()
    embedder.embed_queries(questions)
    bare = len(questions) / (time.perf_counter() - started)
    with in_its_own_process(options) as (url, seconds):
        asyncio.run(searches_a_second(url, name, questions, 4))  # warm
        print("| clients | searches/s | of one client |\n|---|---|---|")
        one = 0.0
        for clients in CLIENTS:
            rate = asyncio.run(searches_a_second(url, name, questions, clients))
            one = one or rate
            print(f"| {clients} | {rate:.0f} | {rate / one:.2f} |")
    print(f"| the bare encoder, all together | {bare:.0f} | {bare / one:.2f} |")
    print(f"\nFrom start to ready: {seconds:.1f} s.")


if __name__ == "__main__":
    main()
