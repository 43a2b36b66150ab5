#!/usr/bin/env python3
"""Fit the confidence on the labelled sets, and print how it does on documents left out.

::

    python -m scripts.fit_confidence path/to/sets --write rag_app/answering/confidence.json

The sets are those of `scripts.bench_retrieval`. Half of a set's documents are in a collection, and
half are not; then the other way round. Each question is asked of both: once the document that
answers it is there, once it is not. Prints Markdown, for regressions fitted without the question's
document ("by document"), and without all sets of its family ("by set").
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rag_app import ingest
from rag_app.answering.confidence import above, kind_of, read_models
from rag_app.answering.features import features_of
from rag_app.app import RagApp
from rag_app.evaluation.abstention import auroc, ece
from rag_app.evaluation.questions import EvalQuestion, read_questions, sample
from rag_app.evaluation.regression import FITTED, Floats, Labelled, cross_fitted, fit_all
from rag_app.evaluation.relevance import Relevance
from rag_app.load import load_config
from rag_app.search.evidence import evidence_of
from scripts.bench_retrieval import SETS, say, words, working_in

MODES = ("hybrid", "dense", "text")

REFUSED = 0.05
"""Share of answerable questions that may be refused, where the others' share is told."""

FULL = 200
"""Questions from which on a set counts as much as any other."""


def family(name: str) -> str:
    """Return what sets of the same documents, in other formats and languages, have in common."""
    return "milvus" if name.startswith("milvus") else name.removeprefix("x").split("_")[0]


def halves(docs: Path, work: Path, name: str) -> list[Path]:
    """Copy each half of a set's documents into a folder, and return both."""
    found = sorted(path for path in docs.rglob("*") if path.is_file())
    random.Random(7).shuffle(found)  # noqa: S311 - no secret
    folders = []
    for half in (0, 1):
        folder = work / f"{name}_{half}"
        for file in found[half::2]:
            copy = folder / file.relative_to(docs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        folders.append(folder)
    return folders


def ask(
    name: str, folder: Path, questions: Sequence[EvalQuestion], modes: Sequence[str]
) -> Iterator[Labelled]:
    """Ask a half of a set all of the set's questions."""
    config = load_config(
        profile="offline", overrides={"vector_store.uri": str(folder.with_suffix(".db"))}
    )
    rows = ingest(config, [folder]).rows
    say(f"{folder.name}: {rows} nodes")
    there = {path.name for path in folder.rglob("*")}
    with RagApp(config) as app:
        for mode in modes:
            found = app.retriever(mode=mode).retrieve_each([each.question for each in questions])
            for question, nodes in zip(questions, found, strict=True):
                held = {Path(file).name in there for file in question.files}
                evidence = evidence_of(nodes)
                # Half of an answer is neither there nor away; and where nothing was found, nothing
                # is left to judge.
                if len(held) != 1 or evidence is None:
                    continue
                relevance = Relevance(question)
                texts = [node.node.get_content() for node in nodes]
                hits = [
                    relevance.is_hit(node.metadata["path"], text)
                    for node, text in zip(nodes, texts, strict=True)
                ]
                passages = list(zip(map(above, nodes), texts, strict=True))
                yield Labelled(
                    document=f"{name}/{question.files[0]}",
                    kind=kind_of(evidence),
                    features=features_of(evidence, passages),
                    is_answerable=held == {True},
                    is_held=held == {True} and any(hits),
                )


def balanced(rows: Sequence[Labelled]) -> list[Labelled]:
    """Weigh questions so that each set counts alike, and so do both labels."""
    found = []
    of = [(_set(row), row.kind, row.is_held) for row in rows]
    counts = {key: of.count(key) for key in set(of)}
    for row, key in zip(rows, of, strict=True):
        size = sum(counts.get((*key[:2], label), 0) for label in (True, False))
        share = min(1.0, size / FULL) / (2 * counts[key])
        found.append(replace(row, weight=share * FULL))
    return found


def _set(row: Labelled) -> str:
    return row.document.partition("/")[0]


def lines(title: str, rows: Sequence[Labelled], confidences: Floats) -> Iterator[str]:
    """Yield a line of the table for each set."""
    for name in dict.fromkeys(map(_set, rows)):
        these = np.array([_set(row) == name for row in rows])
        answerable = np.array([row.is_answerable for row in rows])[these]
        held = np.array([float(row.is_held) for row in rows])[these]
        values = confidences[these]
        least = float(np.quantile(values[answerable], REFUSED))
        shipped = read_models("")[rows[0].kind].least(0.05)
        cells = [
            name,
            title,
            str(len(values)),
            f"{auroc(values, answerable.astype(float)):.3f}",
            f"{ece(values, held):.3f}",
            f"{(values[~answerable] < least).mean():.2f}",
            f"{(values[answerable] < shipped).mean():.2f}",
            f"{(values[~answerable] < shipped).mean():.2f}",
        ]
        yield f"| {' | '.join(cells)} |"


def report(rows: Sequence[Labelled]) -> None:
    """Print how regressions do on what they were not fitted on."""
    for kind, names in FITTED.items():
        some = [row for row in rows if row.kind == kind]
        print(f"\nSearch by {kind}: {', '.join(names)}\n")
        print(
            "| set | left out by | questions | AUROC | ECE | none refused at .05 "
            "| answerable refused as shipped | others refused as shipped |"
        )
        print("|---|---|" + "---:|" * 6)
        for line in lines("document", some, cross_fitted(some, names)):
            print(line)
        families = [family(_set(row)) for row in some]
        for line in lines("set", some, cross_fitted(some, names, families)):
            print(line, flush=True)


def run(asked: argparse.Namespace, work: Path) -> None:
    """Collect, report, and write the coefficients."""
    rows: list[Labelled] = []
    for name in asked.sets:
        folder = asked.data / name
        if not (folder / "questions.jsonl").is_file():
            say(f"skipped {name}: there is no {folder}/questions.jsonl")
            continue
        questions, _ = read_questions(folder / "questions.jsonl")
        questions = sample([each for each in questions if each.answers], asked.sample, 0)
        for half in halves(folder / "docs", work, name):
            rows += ask(name, half, questions, asked.modes)
    rows = balanced(rows)
    if asked.write:
        text = json.dumps(fit_all(rows), indent=1)
        asked.write.write_text(f"{text}\n", encoding="utf-8")
        read_models.cache_clear()
    report(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", type=words, default=list(SETS), help="default: all of them")
    parser.add_argument("--modes", type=words, default=list(MODES), help="default: all of them")
    parser.add_argument("--sample", type=int, default=300, help="questions of each set")
    parser.add_argument("--write", type=Path, help="file of the coefficients")
    parser.add_argument("--work", type=Path, help="folder of the collections (default: temporary)")
    asked = parser.parse_args(arguments)
    with working_in(asked.work) as folder:
        run(asked, folder)


if __name__ == "__main__":
    main()
