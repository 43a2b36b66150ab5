#!/usr/bin/env python3
"""Measure answers without a model: how often the gold answer is quoted, and what that costs.

::

    python -m scripts.bench_answers path/to/sets --sample 300

The sets are those of `scripts.bench_retrieval`. Each question is asked once, so that no sentence's
vector is there from an earlier answer to it: retrieved, and queried, in turn which of them first.
Prints Markdown: the share of questions whose gold answer stands in the contexts and in the quotes,
the latter also for either half of the documents; the quotes' mean length in characters; and medians
in milliseconds, as shipped and warm.
"""

import argparse
import random
import statistics
import zlib
from collections.abc import Sequence
from pathlib import Path

from rag_app import build_query_engine, ingest
from rag_app.config.loader import parse_assignment
from rag_app.evaluation.questions import EvalQuestion, read_questions, sample
from rag_app.evaluation.relevance import Relevance
from scripts.bench_query import Answered, answer, in_medians
from scripts.bench_retrieval import SETS, configure, say, words, working_in

WARM = 10
"""Questions asked before any is measured."""


def row(name: str, questions: Sequence[EvalQuestion], answered: Sequence[Answered]) -> str:
    """Return a set's row of the table."""
    contexts, quotes = [], []
    halves: tuple[list[bool], list[bool]] = ([], [])
    for question, each in zip(questions, answered, strict=True):
        holds = Relevance(question).holds_answer
        contexts.append(any(holds(node.node.get_content()) for node in each.nodes))
        quotes.append(holds(each.response))
        halves[zlib.crc32(" ".join(question.files).encode()) % 2].append(quotes[-1])
    shares = [f"{statistics.mean(each):.3f}" for each in (contexts, quotes, *halves) if each]
    length = f"{statistics.mean(len(each.response) for each in answered):.0f}"
    cells = [name, str(len(questions)), *shares, length, *in_medians(answered)]
    return f"| {' | '.join(cells)} |"


def run(asked: argparse.Namespace, work: Path) -> None:
    """Print the table."""
    print(
        "| set | questions | in contexts | quoted | one half | other half | characters "
        "| retrieve, ms | query, ms | ratio |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
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
        answered = [
            answer(engine, each.question, query_first=at % 2 == 0) for at, each in enumerate(chosen)
        ]
        print(row(name, chosen, answered), flush=True)


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
    with working_in(asked.work) as folder:
        run(asked, folder)


if __name__ == "__main__":
    main()
