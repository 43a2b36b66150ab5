"""Many clients for a while: the same answers, and nothing that grows."""

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import Running, wait_for

CLIENTS = 32
QUESTIONS = [
    "What do M and efConstruction of HNSW mean?",
    "What does Strong consistency show?",
    "What does bread need?",
    "How many clusters does nprobe visit?",
]


async def ask(http: httpx.AsyncClient, number: int) -> str:
    """Ask in one of four ways; return the text, or nothing where the client leaves early."""
    question = QUESTIONS[number // 4 % len(QUESTIONS)]
    body: dict[str, Any] = {
        "model": "rag_app",
        "messages": [{"role": "user", "content": question}],
    }
    way = number % 4
    if way == 0:
        answer = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
        return f"{question} {answer['choices'][0]['message']['content']}"
    if way == 1:
        found = await http.post("/v1/vector_stores/rag_app/search", json={"query": question})
        return f"search {question} {found.raise_for_status().json()['data'][0]['file_id']}"
    async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if way == 2 and line.startswith("data:"):
                return ""  # and away
    return ""


async def ask_many(url: str, number: int) -> set[str]:
    left = iter(range(number))
    texts: set[str] = set()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            for place in left:
                texts.add(await ask(http, place))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return texts


def held() -> tuple[int, int, float]:
    """Return this process's file handles, threads, and megabytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    )


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts handles in /proc")
def test_many_clients_leave_nothing_behind(
    running: Running, request: pytest.FixtureRequest
) -> None:
    number = 20_000 if request.config.getoption("--slow") else 320
    before: set[str] = set()
    for _ in range(3):  # until the pools have the threads that so many clients need
        before |= asyncio.run(ask_many(running.url, 320))
    handles, threads, megabytes = held()
    after = asyncio.run(ask_many(running.url, number))
    assert after == before, "the same questions have the same answers"
    assert len(after) == 2 * len(QUESTIONS) + 1
    for _ in range(100):  # connections are closed a moment later
        if held()[0] <= handles + 2:
            break
        threading.Event().wait(0.1)
    now = held()
    assert now[0] <= handles + 2
    assert now[1] <= threads + 2
    assert now[2] < megabytes + 60
    wait_for(lambda: running.service.admission.in_flight == 0)
