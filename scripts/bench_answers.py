#!/usr/bin/env python3
"""Measure answers without a model: how often the gold answer is quoted, and what that costs.

::

    python -m scripts.bench_answers path/to/sets --sample 300

The sets are those of `scripts.bench_retrieval`. Each question is asked once, so that no sentence's
vector is there from an earlier answer to it: retrieved, and queried, in turn which of them first.
Prints Markdown: the share of questions whose gold answer stands in the contexts and in the quotes,
and medians in milliseconds, as shipped and warm.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app import build_query_engine, ingest
from rag_app.config.loader import parse_assignment
from rag_app.evaluation.questions import EvalQuestion, read_questions, sample
from rag_app.evaluation.relevance import Relevance
from scripts.bench_retrieval import SETS, configure, say, words

WARM = 10
"""Questions asked before any is measured."""


@dataclass(frozen=True)
class Asked:
    """What came of a question, and how many milliseconds it took."""

    in_contexts: bool
    in_quotes: bool
    retrieve: float
    query: float


def ask(engine: Any, question: EvalQuestion, *, query_first: bool) -> Asked:
    """Retrieve and query, one after the other."""
    took: dict[str, float] = {}

    def timed(name: str, work: Callable[[str], Any]) -> Any:
        started = time.perf_counter()
        result = work(question.question)
        took[name] = 1000 * (time.perf_counter() - started)
        return result

    steps = [("retrieve", engine.retriever.retrieve), ("query", engine.query)]
    found = {name: timed(name, work) for name, work in (steps[::-1] if query_first else steps)}
    relevance = Relevance(question)
    return Asked(
        any(relevance.holds_answer(node.node.get_content()) for node in found["retrieve"]),
        relevance.holds_answer(str(found["query"])),
        took["retrieve"],
        took["query"],
    )


def row(name: str, asked: Sequence[Asked]) -> str:
    """Return a set's row of the table."""
    retrieve = statistics.median(each.retrieve for each in asked)
    query = statistics.median(each.query for each in asked)
    ratio = statistics.median(each.query / each.retrieve for each in asked)
    contexts = statistics.mean(each.in_contexts for each in asked)
    quotes = statistics.mean(each.in_quotes for each in asked)
    return (
        f"| {name} | {len(asked)} | {contexts:.3f} | {quotes:.3f} | "
        f"{retrieve:.1f} | {query:.1f} | {ratio:.2f} |"
    )


def run(asked: argparse.Namespace, work: Path) -> None:
    """Print the table."""
    print("| set | questions | in contexts | quoted | retrieve, ms | query, ms | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in asked.sets:
        folder = asked.data / name
        if not (folder / "questions.jsonl").is_file():
            say(f"skipped {name}: there is no {folder}/questions.jsonl")
            continue
        changed = dict(parse_assignment(setting) for setting in asked.set)
        config = configure(work, f"{name}_224", changed)
        say(f"{name}: {ingest(config, [folder / 'docs']).rows} nodes")
        questions, _ = read_questions(folder / "questions.jsonl")
        answerable = [each for each in questions if each.answers]
        random.Random(asked.seed).shuffle(answerable)  # noqa: S311 - no secret
        warm = answerable[len(answerable) - min(WARM, len(answerable) // 4) :]
        measured = answerable[: len(answerable) - len(warm)]
        engine = build_query_engine(config)
        for question in warm:
            engine.query(question.question)
        chosen = sample(measured, asked.sample, asked.seed)
        results = [ask(engine, each, query_first=at % 2 == 0) for at, each in enumerate(chosen)]
        print(row(name, results), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", type=words, default=list(SETS), help="default: all of them")
    parser.add_argument("--sample", type=int, help="questions of each set (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration")
    parser.add_argument("--work", type=Path, help="folder of the collections (default: temporary)")
    asked = parser.parse_args(arguments)
    if asked.work:
        asked.work.mkdir(parents=True, exist_ok=True)
        run(asked, asked.work)
        return
    with tempfile.TemporaryDirectory() as name:
        run(asked, Path(name))


if __name__ == "__main__":
    main()
