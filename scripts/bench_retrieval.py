#!/usr/bin/env python3
"""Measure retrieval on the labelled sets: modes by node sizes, as `rag-app eval` measures it.

::

    python -m scripts.bench_retrieval path/to/sets --sample 600 > table.md

Each set of the folder has ``docs/`` and ``questions.jsonl``. Collections are made in ``--work`` and
kept there: a second run ingests nothing.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag_app import Config, ingest, load_config
from rag_app.evaluation.questions import read_questions, sample
from rag_app.evaluation.study import Settings, conduct
from rag_app.evaluation.summary import summarize
from rag_app.evaluation.variants import Variant

SETS = (
    *("squad", "covidqa", "milvus_docs_md", "milvus_docs_html", "milvus_docs_ko_html"),
    *("xquad_zh", "xquad_de", "xquad_ru"),
)
MODES = ("dense", "text", "hybrid")
METRICS = ("hit@1", "hit@2", "hit@10", "@1000ch", "@2000ch")


def say(message: str) -> None:
    """Print to standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def no_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Say what is being done, without drawing progress."""
    say(label)
    yield lambda _done, _total: None


def configure(work: Path, name: str, overrides: dict[str, Any]) -> Config:
    """Return the offline profile's configuration over a collection of this name."""
    return load_config(
        profile="offline",
        overrides={
            "vector_store.uri": str(work / "milvus.db"),
            "vector_store.collection": name,
            **overrides,
        },
    )


def measure(folder: Path, work: Path, asked: argparse.Namespace) -> Iterator[str]:
    """Yield a row of the table for each node size and mode."""
    questions, _ = read_questions(folder / "questions.jsonl")
    questions = sample(questions, asked.sample, asked.seed)
    for size in asked.sizes:
        changed = {"chunking.size": size, "chunking.overlap": size // 10}
        changed |= dict(setting.split("=", 1) for setting in asked.set)
        name = f"{folder.name}_{size}"
        config = configure(work, name, changed)
        report = ingest(config, [folder / "docs"])
        say(f"{name}: {report.rows} nodes")
        variants = [
            Variant(mode, configure(work, name, {**changed, "retrieval.mode": mode}))
            for mode in asked.modes
        ]
        settings = Settings(timed=asked.timed, seed=asked.seed, answers=False, fresh=True)
        study = conduct(
            config, variants, questions, settings, work / "eval", progress_bar=no_bar, say=say
        )
        for variant in summarize(study)["variants"]:
            figures = [f"{variant['metrics'][metric]['value']:.3f}" for metric in METRICS]
            total = variant["ms"].get("total", {}).get("p50", {}).get("value", float("nan"))
            cells = [folder.name, str(size), variant["name"], str(len(study.questions)), *figures]
            yield f"| {' | '.join(cells)} | {total:.1f} |"


def run(asked: argparse.Namespace, work: Path) -> None:
    """Print the table."""
    print(f"| set | tokens | mode | questions | {' | '.join(METRICS)} | ms |")
    print("|---|---|---|" + "---:|" * (len(METRICS) + 2))
    for name in asked.sets:
        folder = asked.data / name
        if not (folder / "questions.jsonl").is_file():
            say(f"skipped {name}: there is no {folder}/questions.jsonl")
            continue
        for row in measure(folder, work, asked):
            print(row, flush=True)


def words(text: str) -> list[str]:
    """Split a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """Split a list of numbers with commas."""
    return [int(word) for word in words(text)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the labelled sets")
    parser.add_argument("--sets", type=words, default=list(SETS), help="default: all of them")
    parser.add_argument("--modes", type=words, default=list(MODES), help="default: all of them")
    parser.add_argument("--sizes", type=numbers, default=[224], help="of nodes (default: 224)")
    parser.add_argument("--sample", type=int, help="questions of each set (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--timed", type=int, default=50, help="questions timed (default: 50)")
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
