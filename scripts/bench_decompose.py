#!/usr/bin/env python3
"""Measure what taking questions apart brings: two facts of two documents, and simple questions.

::

    python -m scripts.bench_decompose path/to/sets --sample 200

Of each set, pairs of questions with their gold answers in two documents become one: "Who …, and
when …?". Prints for how many both answers stand in the contexts, with ``retrieval.decompose`` as
"never" and "auto"; and of the set's own questions how many are taken apart, and for how many the
answer stands in the contexts.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from rag_app import build_retriever, ingest
from rag_app.evaluation.questions import EvalQuestion, read_questions
from rag_app.evaluation.relevance import Relevance
from rag_app.retrieval.decompose import split_question
from scripts.bench_retrieval import SETS, configure, say, words, working_in

WAYS = ("never", "auto")
ANDS = {"xquad_de": "und", "xquad_ru": "\u0438"}


def joined(one: str, other: str, by: str) -> str:
    """Make one question of two."""
    return f"{one.strip(' ?')}, {by} {other[0].lower()}{other[1:]}"


def pairs(questions: Sequence[EvalQuestion], number: int, seed: int) -> list[list[EvalQuestion]]:
    """Choose pairs of questions whose answers stand in two documents."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    some = [each for each in questions if each.answers and each.files]
    drawn = [chance.sample(some, 2) for _ in range(3 * number)]
    return [pair for pair in drawn if set(pair[0].files).isdisjoint(pair[1].files)][:number]


def run(asked: argparse.Namespace, work: Path) -> None:
    """Print the table."""
    print("| set | pairs | both, never | both, auto | simple | taken apart | never | auto |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in asked.sets:
        folder = asked.data / name
        questions, _ = read_questions(folder / "questions.jsonl")
        config = configure(work, f"{name}_224", {})
        say(f"{name}: {ingest(config, [folder / 'docs']).rows} nodes")
        both = pairs(questions, asked.sample, asked.seed)
        texts = [joined(a.question, b.question, ANDS.get(name, "and")) for a, b in both]
        simple = [each for each in questions if each.answers][: 3 * asked.sample]
        shares, kept = [], []
        for way in WAYS:
            found = build_retriever(configure(work, f"{name}_224", {"retrieval.decompose": way}))
            holds = [
                all(
                    any(Relevance(each).holds_answer(n.node.get_content()) for n in nodes)
                    for each in pair
                )
                for pair, nodes in zip(both, found.retrieve_each(texts), strict=True)
            ]
            shares.append(sum(holds) / max(len(holds), 1))
            alone = [
                any(Relevance(each).holds_answer(n.node.get_content()) for n in nodes)
                for each, nodes in zip(
                    simple, found.retrieve_each([each.question for each in simple]), strict=True
                )
            ]
            kept.append(sum(alone) / max(len(alone), 1))
        apart = sum(len(split_question(each.question)) > 1 for each in simple)
        cells = [name, str(len(both)), *(f"{share:.3f}" for share in shares), str(len(simple))]
        print(
            f"| {' | '.join([*cells, str(apart), *(f'{share:.3f}' for share in kept)])} |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", type=words, default=list(SETS), help="default: all of them")
    parser.add_argument("--sample", type=int, default=200, help="pairs of a set (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--work", type=Path, help="folder of the collections (default: temporary)")
    asked = parser.parse_args(arguments)
    with working_in(asked.work) as folder:
        run(asked, folder)


if __name__ == "__main__":
    main()
