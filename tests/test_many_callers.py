"""One app under many threads and event loops: the answers of one, and nothing left behind."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rag_app import RagApp
from rag_app.config.sections import Config
from rag_app.errors import ClosedError
from rag_app.milvus.lite_locks import who_locks
from rag_app.milvus.lite_shared import HOLDER
from tests.conftest import FakeEmbedder, release_databases
from tests.test_app import EchoLLM

QUESTIONS = [
    "What do M and efConstruction of HNSW mean?",
    "What does Strong consistency show?",
    "What does bread need?",
    "How many clusters does nprobe visit?",
    "How long is the dough kneaded?",
]
THREADS, LOOPS = 8, 2
AT_ONCE = 16
"""Questions that each event loop asks at the same time."""

GROWTH_MB = 40
"""Of memory, from the first half to the end. Python and gRPC keep some for the next time."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux tells of itself")


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    files: int
    megabytes: float
    threads: frozenset[str]

    @classmethod
    def now(cls) -> "Held":
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            len(list(Path("/proc/self/fd").iterdir())),
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            frozenset(f"{each.name} {each.ident}" for each in threading.enumerate()),
        )


class Forgetful(EchoLLM):
    """Keeps no prompts."""

    def _answer_to(self, prompt: str) -> str:
        answer = super()._answer_to(prompt)
        self._prompts.clear()
        return answer


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


async def ask_at_once(app: RagApp, questions: Sequence[str]) -> list[str]:
    engine, streaming = app.query_engine(), app.query_engine(streaming=True)
    left = iter(enumerate(questions))
    answers: dict[int, str] = {}

    async def client() -> None:
        for number, question in left:
            if number % 2:
                response: Any = await streaming.aquery(question)
                pieces = [piece async for piece in response.async_response_gen()]
                answers[number] = "".join(pieces)
            else:
                answers[number] = str(await engine.aquery(question))

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return [answers[number] for number in range(len(questions))]


def ask_all(app: RagApp, number: int) -> list[tuple[str, str]]:
    """Ask so many questions: of each ten, six from threads and four from the two loops."""
    asked = [QUESTIONS[each % len(QUESTIONS)] for each in range(number)]
    share = number // 10
    of_loops = [asked[: 2 * share], asked[2 * share : 4 * share]]
    of_threads = asked[4 * share :]
    engine = app.query_engine()
    with ThreadPoolExecutor(THREADS + LOOPS) as threads:
        loops = [threads.submit(asyncio.run, ask_at_once(app, some)) for some in of_loops]
        answers = list(threads.map(lambda question: str(engine.query(question)), of_threads))
        answers += [answer for loop in loops for answer in loop.result()]
    return list(zip([*of_threads, *of_loops[0], *of_loops[1]], answers, strict=True))


@pytest.mark.parametrize("backend", ["extractive", "llm"])
@pytest.mark.parametrize("number", [100, 2000])
def test_many_callers_get_the_answers_of_one_and_leave_nothing_behind(
    ingested: Config,
    fake_embedder: FakeEmbedder,
    request: pytest.FixtureRequest,
    number: int,
    backend: str,
) -> None:
    if number > 100 and not request.config.getoption("--slow"):
        pytest.skip("2,000 questions with ./scripts/test.sh --slow")
    release_databases(Path(ingested.vector_store.uri).parent)  # the ingest's
    before, had = Held.now(), children()
    with RagApp(ingested, llm=Forgetful() if backend == "llm" else None) as app:
        engine = app.query_engine()
        expected = {question: str(engine.query(question)).strip() for question in QUESTIONS}
        assert len(set(expected.values())) >= 4
        answers = ask_all(app, number // 2)
        half = Held.now()
        answers += ask_all(app, number // 2)
        end = Held.now()
        assert len(answers) == number
        assert {(q, answer.strip()) for q, answer in answers} == set(expected.items())
    started = time.monotonic()
    while (left := Held.now().threads - before.threads) and time.monotonic() - started < 10:
        time.sleep(0.05)  # gRPC's server ends in a thread of its own
    for name, value in (("before", before), ("half", half), ("end", end), ("after", Held.now())):
        print(
            f"{name}: {value.files} files, {value.megabytes:.0f} MB, {len(value.threads)} threads"
        )
    assert not [each for each in left if each.startswith(("rag_app", "asyncio"))]
    assert not left
    assert children() == had
    assert who_locks(Path(ingested.vector_store.uri) / HOLDER) == ""
    assert end.files <= half.files + 2
    assert end.megabytes <= half.megabytes + GROWTH_MB


def test_closing_under_questions_lets_them_end_or_says_why_and_gives_the_lock_back(
    ingested: Config, fake_embedder: FakeEmbedder
) -> None:
    holder = Path(ingested.vector_store.uri) / HOLDER
    release_databases(Path(ingested.vector_store.uri).parent)  # the ingest's
    app = RagApp(ingested)
    assert who_locks(holder) == "", "nothing is open before it is needed"
    engine = app.query_engine()
    expected = {question: str(engine.query(question)) for question in QUESTIONS}
    assert who_locks(holder) != ""
    answered: list[tuple[str, str]] = []
    errors: list[BaseException] = []

    def ask(number: int) -> None:
        while True:
            question = QUESTIONS[number % len(QUESTIONS)]
            try:
                answered.append((question, str(engine.query(question))))
            except Exception as error:
                errors.append(error)
                return

    with ThreadPoolExecutor(THREADS) as threads:
        asking = [threads.submit(ask, number) for number in range(THREADS)]
        while len(answered) < THREADS:
            time.sleep(0.005)
        app.close()
        assert who_locks(holder) == ""
        for each in asking:
            each.result(30)
    assert [type(error) for error in errors] == [ClosedError] * THREADS
    assert set(answered) <= set(expected.items())
