#!/usr/bin/env python3
"""Measure what the server costs over calling `RagApp`, and what it does at once.

::

    python -m scripts.bench_server questions.jsonl --set vector_store.uri=storage/milvus.db

Asks the configured collection. First each question in turn, warm: `RagApp` called directly, and a
chat completion of a server in this process that shares its parts. Then a server in a process of its
own: seconds from start to ready, and searches a second at 1, 4, 16 and 32 clients, beside the bare
encoder with the same texts together. Prints Markdown.
"""

import argparse
import asyncio
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from rag_app.config.loader import parse_assignment
from rag_app.config.sections import Config
from rag_app.embedding.factory import build_embedder
from rag_app.load import load_config
from rag_app.questions import Question, read_questions
from rag_app.server.access import ANYONE
from rag_app.server.application import make_application
from rag_app.server.service import Service

CLIENTS = (1, 4, 16, 32)


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
            if match := re.search(r"http://\S+?(?=/v1)", line):
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


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", type=Path, help='JSON lines with a "question" each, or text')
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--number", type=int, default=200, help="questions asked (default: 200)")
    arguments = parser.parse_args()
    overrides = dict(parse_assignment(text) for text in arguments.set)
    config = load_config(overrides=overrides)
    name = config.vector_store.collection
    lines = arguments.questions.read_text(encoding="utf-8").splitlines()
    read = read_questions(lines, arguments.questions.name)
    questions = [each.text for each in read if isinstance(each, Question)][: arguments.number]

    direct, served = overhead(config, questions)
    print(f"| {len(questions)} questions, one at a time | median ms |\n|---|---|")
    print(f"| `RagApp` | {direct:.1f} |\n| chat completion | {served:.1f} |")
    print(f"| overhead | {served - direct:.1f} |\n")

    embedder = build_embedder(config.embedding)
    embedder.embed_queries(questions)
    started = time.perf_counter()
    embedder.embed_queries(questions)
    bare = len(questions) / (time.perf_counter() - started)
    options = [part for text in arguments.set for part in ("--set", text)]
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
