#!/usr/bin/env python3
"""Measure what retrieving costs beside the encoder and Milvus, and what asking together gains.

::

    python -m scripts.bench_query questions.jsonl --set embedding.runtime=openvino

Asks the configured collection, warm. For each question in turn: our retriever; the bare encoder;
the bare searches of Milvus with the same limits. Then many at a time from one event loop, embedded
one by one and in micro-batches. Prints Markdown: medians in milliseconds, questions a second.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import NodeWithScore

from rag_app import build_query_engine
from rag_app.config.index_types import search_params
from rag_app.config.loader import parse_assignment
from rag_app.config.sections import Config
from rag_app.embedding.batching import BatchingEmbedder
from rag_app.embedding.factory import build_embedder
from rag_app.load import load_config
from rag_app.milvus.backend import backend_of
from rag_app.milvus.dense_index import configured_index
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import open_store
from rag_app.milvus.words import WORDS_FIELD
from rag_app.questions import Question, read_questions
from rag_app.retrieval.retriever import make_retriever
from rag_app.search.modes import MODES
from rag_app.search.terms import TermAnalyzer

MEASURED = ("dense", "text", "hybrid")

CLIENTS = (1, 4, 16, 32)
"""How many questions are asked at the same time."""


def measure(config: Config, questions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return median milliseconds by mode: ours, encode, search, and what is left."""
    store = open_store(config)
    backend = backend_of(store.client, config.vector_store.uri, config.vector_store.timeout)
    embedder = build_embedder(config.embedding)
    terms = TermAnalyzer(config.retrieval.language)
    table = {}
    for mode in MEASURED:
        section = config.retrieval.model_copy(update={"mode": mode})
        retriever = make_retriever(store, embedder, section)
        limit = section.candidates if MODES[mode].takes_candidates else section.similarity_top_k
        params = search_params(configured_index(config, backend), config.index.search_params, limit)

        def search(data: Any, field: str, params: Any, limit: int = limit) -> None:
            store.client.search(
                store.collection_name,
                data=[data],
                limit=limit,
                anns_field=field,
                search_params={"params": params},
            )

        times: dict[str, list[float]] = {"ours": [], "encode": [], "search": [], "left": []}
        for question in questions:
            vector = embedder.embed_queries([question])[0]
            words = terms.of_question(question)
            ours = timed(lambda: retriever.retrieve(question))  # noqa: B023 - called at once
            encode = timed(lambda: embedder.embed_queries([question]))  # noqa: B023
            bare = 0.0
            if MODES[mode].needs_vectors:
                bare += timed(lambda: search(vector, VECTOR_FIELD, params))  # noqa: B023
            if MODES[mode].needs_words:
                bare += timed(lambda: search(words, WORDS_FIELD, {}))  # noqa: B023
            encode = encode if MODES[mode].needs_vectors else 0.0
            for name, value in zip(times, (ours, encode, bare, ours - encode - bare), strict=True):
                times[name].append(value)
        table[mode] = {name: statistics.median(values) for name, values in times.items()}
    return table


async def per_second(
    ask: Callable[[str], Awaitable[object]], questions: Sequence[str], together: int
) -> float:
    """Return how many questions a second are done with so many of them at the same time."""
    left = iter(questions)

    async def client() -> None:
        for question in left:
            await ask(question)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(together)))
    return len(questions) / (time.perf_counter() - started)


async def measure_together(config: Config, questions: Sequence[str]) -> dict[int, list[float]]:
    """Return questions a second by how many are asked at the same time.

    Encoding one by one, encoding in micro-batches, retrieving with either.
    """
    store = open_store(config)
    alone = build_embedder(config.embedding)
    joined = BatchingEmbedder(alone)
    ways = [alone.aget_query_embedding, joined.aget_query_embedding] + [
        make_retriever(store, embedder, config.retrieval).aretrieve for embedder in (alone, joined)
    ]
    for ask in ways:
        await per_second(ask, questions[:10], 1)
    table: dict[int, list[float]] = {}
    for together in CLIENTS:
        table[together] = [await per_second(ask, questions, together) for ask in ways]
    joined.close()
    return table


@dataclass(frozen=True)
class Answered:
    """What retrieving and answering a question gave, and how many milliseconds each took."""

    nodes: list[NodeWithScore]
    response: str
    retrieve: float
    query: float


def answer(engine: Any, question: str, *, query_first: bool) -> Answered:
    """Retrieve and query, one after the other: whichever is second may find caches warm."""
    found: dict[str, Any] = {}

    def retrieve() -> float:
        return timed(lambda: found.update(nodes=engine.retriever.retrieve(question)))

    def query() -> float:
        return timed(lambda: found.update(response=str(engine.query(question))))

    if query_first:
        took = query()
        return Answered(retrieve=retrieve(), query=took, **found)
    took = retrieve()
    return Answered(retrieve=took, query=query(), **found)


def in_medians(answered: Sequence[Answered]) -> list[str]:
    """Return the medians of retrieving, of answering, and of one by the other."""
    return [
        f"{statistics.median(each.retrieve for each in answered):.1f}",
        f"{statistics.median(each.query for each in answered):.1f}",
        f"{statistics.median(each.query / each.retrieve for each in answered):.2f}",
    ]


def timed(work: Callable[[], object]) -> float:
    """Return how many milliseconds it took."""
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("questions", type=Path, help="as for rag-app batch")
    parser.add_argument("--number", type=int, default=200, help="of questions (default: 200)")
    parser.add_argument("--profile", default="offline", help="default: offline")
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration")
    asked = parser.parse_args(arguments)
    overrides = dict(parse_assignment(setting) for setting in asked.set)
    with asked.questions.open(encoding="utf-8") as lines:
        read = list(read_questions(lines, asked.questions.name))
    questions = [each.text for each in read if isinstance(each, Question)][: asked.number]
    config = load_config(profile=asked.profile, overrides=overrides)
    print(f"{len(questions)} questions, medians in ms\n")
    print("| mode | rag_app | encoder | Milvus | what is left |\n|---|---:|---:|---:|---:|")
    for mode, row in measure(config, questions).items():
        print(f"| {mode} | " + " | ".join(f"{value:.1f}" for value in row.values()) + " |")
    engine = build_query_engine(config)
    engine.query("What is loaded once?")
    answered = [answer(engine, text, query_first=at % 2 == 0) for at, text in enumerate(questions)]
    print("\n| | retrieve | query | ratio |\n|---|---:|---:|---:|")
    print(f"| as configured | {' | '.join(in_medians(answered))} |")
    print("\nQuestions a second:\n\n| at a time | encoder | in batches | retriever | in batches |")
    print("|---:|---:|---:|---:|---:|")
    for together, speeds in asyncio.run(measure_together(config, questions)).items():
        print(f"| {together} | " + " | ".join(f"{value:.0f}" for value in speeds) + " |")


if __name__ == "__main__":
    main()
