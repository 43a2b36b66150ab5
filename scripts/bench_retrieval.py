#!/usr/bin/env python3
"""Measure retrieval on the labelled sets: modes by node sizes, as `rag-app eval` measures it.

::

    python -m scripts.bench_retrieval path/to/sets --sample 600 > table.md

Each set of the folder has ``docs/`` and ``questions.jsonl``. Collections are made in ``--work`` and
kept there: a second run ingests nothing. ``--quick-start`` adds what LlamaIndex's quick start finds
with the same model: its reader, its splitter of 1,024 tokens, its vector index in memory.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag_app import Config, ingest, load_config
from rag_app.evaluation.questions import EvalQuestion, read_questions, sample
from rag_app.evaluation.relevance import Relevance
from rag_app.evaluation.study import Settings, conduct
from rag_app.evaluation.summary import summarize
from rag_app.evaluation.variants import Variant

SETS = (
    *("squad", "covidqa", "milvus_docs_md", "milvus_docs_html", "milvus_docs_ko_html"),
    *("xquad_zh", "xquad_de", "xquad_ru"),
)
MODES = ("dense", "text", "hybrid")
CUTOFFS = (1, 2, 10)
VIEWS = (1000, 2000)
METRICS = (*(f"hit@{cutoff}" for cutoff in CUTOFFS), *(f"@{view}ch" for view in VIEWS))


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
    if asked.quick_start:
        figures = [f"{figure:.3f}" for figure in quick_start(folder / "docs", study.questions)]
        cells = [folder.name, "1024", "quick start", str(len(study.questions)), *figures]
        yield f"| {' | '.join(cells)} | |"


def quick_start(docs: Path, questions: Sequence[EvalQuestion]) -> list[float]:
    """Return `METRICS` of what LlamaIndex finds as its quick start has it, with the same model."""
    from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    say(f"{docs}: LlamaIndex's quick start")
    index = VectorStoreIndex.from_documents(
        SimpleDirectoryReader(str(docs), recursive=True).load_data(),
        embed_model=HuggingFaceEmbedding(
            model_name=str(load_config(profile="offline").embedding.folder)
        ),
    )
    retriever = index.as_retriever(similarity_top_k=max(CUTOFFS))
    figures = [0.0] * len(METRICS)
    for question in questions:
        relevance = Relevance(question)
        found = [
            (node.metadata["file_name"], node.node.get_content())
            for node in retriever.retrieve(question.question)
        ]
        hits = [relevance.is_hit(*each) for each in found]
        reach = relevance.reach(found)
        kept = [any(hits[:cutoff]) for cutoff in CUTOFFS]
        kept += [reach is not None and reach <= view for view in VIEWS]
        figures = [figure + each for figure, each in zip(figures, kept, strict=True)]
    return [figure / max(len(questions), 1) for figure in figures]


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


@contextmanager
def working_in(folder: Path | None) -> Iterator[Path]:
    """Make the folder of the collections; None: a temporary one, which is deleted in the end."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


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
    parser.add_argument("--quick-start", action="store_true", help="LlamaIndex's, beside ours")
    parser.add_argument("--work", type=Path, help="folder of the collections (default: temporary)")
    asked = parser.parse_args(arguments)
    with working_in(asked.work) as folder:
        run(asked, folder)


if __name__ == "__main__":
    main()
