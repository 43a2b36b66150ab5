#!/usr/bin/env python3
"""Measure how well unsupported sentences are told, on pairs made from labelled sets.

::

    python -m scripts.bench_support path/to/sets --sample 150

A sentence of a passage, as it stands there or with its clauses turned round, is supported; with
another number, another name of the same document, a "not" put in or left out, or joined with a
sentence of another passage, it is not. Prints precision and recall of the mark "unsupported" or any
other, by kind.
"""

import argparse
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rag_app import load_config
from rag_app.answering.support import SupportChecker
from rag_app.embedding.factory import build_embedder
from rag_app.evaluation.questions import read_questions
from rag_app.schema import Source

_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_NUMBER = re.compile(r"\b\d{2,4}\b")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")
_VERB = re.compile(r"\b(is|was|are|were|has|had|can|could|will|would|must)\b(?! not)")
KINDS = ("as it stands", "turned round", "number", "name", "negation", "merged")


def pairs(texts: Sequence[str], seed: int) -> Iterator[tuple[str, str, Source]]:
    """Yield kind, sentence and passage."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for at, text in enumerate(texts):
        sentences = [each for each in _SENTENCE.split(text) if 40 < len(each) < 250]
        if len(sentences) < 2:
            continue
        source = Source(1, "a", "a", "a", "a", "", "text", None, 1.0, text)
        sentence = chance.choice(sentences)
        yield "as it stands", sentence, source
        head, comma, tail = sentence.rstrip(".").partition(", ")
        if comma:
            yield (
                "turned round",
                f"{tail[0].upper()}{tail[1:]}, {head[0].lower()}{head[1:]}.",
                source,
            )
        if found := _NUMBER.search(sentence):
            other = str(int(found[0]) + chance.choice((-7, -3, 2, 11)))
            yield "number", sentence.replace(found[0], other, 1), source
        names = set(_NAME.findall(text))
        if (own := _NAME.search(sentence)) and (others := sorted(names - set(sentence.split()))):
            yield "name", sentence.replace(own[0], chance.choice(others), 1), source
        if verb := _VERB.search(sentence):
            yield "negation", f"{sentence[: verb.end()]} not{sentence[verb.end() :]}", source
        foreign = chance.choice(_SENTENCE.split(texts[at - 1]))
        if len(foreign) > 40:
            merged = f"{sentence.rstrip('.')}, and {foreign[0].lower()}{foreign[1:]}"
            yield "merged", merged, source


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", default="squad,covidqa", help="default: squad,covidqa")
    parser.add_argument("--sample", type=int, default=150, help="passages of a set (default: 150)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--words-only", action="store_true", help="without the embedder")
    asked = parser.parse_args(arguments)
    config = load_config(profile="offline")
    embedder = None if asked.words_only else build_embedder(config.embedding)
    checker = SupportChecker("auto", embedder)
    print("| set | kind | pairs | marked |\n|---|---|---:|---:|")
    for name in asked.sets.split(","):
        questions, _ = read_questions(asked.data / name / "questions.jsonl")
        texts = sorted({" ".join(text.split()) for each in questions for text in each.contexts})
        random.Random(asked.seed).shuffle(texts)  # noqa: S311 - no secret
        marked: dict[str, list[bool]] = defaultdict(list)
        for kind, sentence, source in pairs(texts[: asked.sample], asked.seed):
            for found in checker.check(f"{sentence} [1]", [source])[:1]:
                marked[kind].append(not found.is_supported)
        for kind in KINDS:
            share = sum(marked[kind]) / max(len(marked[kind]), 1)
            print(f"| {name} | {kind} | {len(marked[kind])} | {share:.2f} |")
        wrong = sum(sum(marked[kind]) for kind in KINDS[:2])
        right = sum(sum(marked[kind]) for kind in KINDS[2:])
        recall = right / max(sum(len(marked[kind]) for kind in KINDS[2:]), 1)
        print(
            f"| {name} | precision {right / max(right + wrong, 1):.2f}, recall {recall:.2f} | | |"
        )


if __name__ == "__main__":
    main()
