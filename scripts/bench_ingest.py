"""Measure ingestion against LlamaIndex's quick start, the walk-through's way, and the bare encoder.

    python scripts/bench_ingest.py bench [FOLDER] [--files 8] [--repeats 3] [--runtimes auto,onnx]

Every contender runs in a process of its own, all of them in turn, `--repeats` times; the figures
are medians over whole processes: imports and the loading of the model are in them; ratios are
medians of those of each turn. "auto" is the configuration as shipped. Prints Markdown.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

QUESTION = "What is an index?"
FRESH = "fresh"
"""As shipped and just installed: nothing is compiled yet."""

LIBRARIES = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock and of all processors, peak memory, what it printed."""

    wall: float
    cpu: float
    megabytes: float
    said: dict[str, Any]


# --- the contenders, each in its own process -----------------------------------------------------


def _config(folder: Path, runtime: str) -> Any:
    from rag_app import load_config

    return load_config(
        profile="offline",
        overrides={
            "vector_store.uri": str(folder / f"ours-{runtime}.db"),
            "embedding.runtime": "auto" if runtime == FRESH else runtime,
            "embedding.compiled_folder": str(folder / (FRESH if runtime == FRESH else "compiled")),
        },
    )


def _model() -> str:
    from rag_app.config.sections import EmbeddingSection

    return str(EmbeddingSection().folder)


def ours(folder: Path, runtime: str) -> dict[str, Any]:
    """Ingest the folder as `rag-app ingest` does."""
    from rag_app import ingest

    report = ingest(_config(folder, runtime), [folder / "docs"])
    return {"nodes": report.rows, "embedded": report.nodes_embedded, "seconds": report.seconds}


def quick_start(folder: Path, _: str) -> dict[str, Any]:
    """Do as LlamaIndex's quick start, with the same splitter and model."""
    from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.milvus import MilvusVectorStore
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{_model()}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    chunking = _config(folder, "torch").chunking
    splitter = SentenceSplitter(
        chunk_size=chunking.size,
        chunk_overlap=chunking.overlap,
        tokenizer=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        paragraph_separator="\n\n",
    )
    # Without the file's metadata, so that the nodes are the same.
    documents = SimpleDirectoryReader(
        str(folder / "docs"), file_metadata=lambda _: {}, recursive=True
    ).load_data()
    store = MilvusVectorStore(uri=str(folder / "quick-start.db"), dim=384, overwrite=True)
    index = VectorStoreIndex.from_documents(
        documents,
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=HuggingFaceEmbedding(model_name=_model()),
        transformations=[splitter],
    )
    counted = store.client.query(
        store.collection_name, filter="", output_fields=["count(*)"], consistency_level="Strong"
    )
    return {"nodes": int(counted[0]["count(*)"]), "index": type(index).__name__}


def walk_through(folder: Path, _: str) -> dict[str, Any]:
    """Encode all nodes at once, insert them at once; it is handed the nodes ready-made."""
    from pymilvus import MilvusClient
    from sentence_transformers import SentenceTransformer

    texts = _node_texts(folder)
    vectors = SentenceTransformer(_model(), device="cpu").encode(texts, normalize_embeddings=True)
    client = MilvusClient(str(folder / "walk-through.db"))
    client.create_collection("blog", dimension=vectors.shape[1], metric_type="COSINE")
    client.insert(
        "blog",
        [
            {"id": at, "text": text, "vector": vector}
            for at, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ],
    )
    return {"nodes": len(texts)}


def limit(folder: Path, runtime: str) -> dict[str, Any]:
    """Embed the ready-made nodes, sorted by length, and do nothing else."""
    import numpy as np

    texts = sorted(_node_texts(folder), key=len)
    if runtime == "torch":
        from sentence_transformers import SentenceTransformer

        vectors = SentenceTransformer(_model(), device="cpu").encode(texts)
    else:
        from rag_app.embedding.factory import build_embedder

        embedder = build_embedder(_config(folder, runtime).embedding)
        vectors = np.asarray(embedder.get_text_embedding_batch(texts))
    np.save(folder / f"{runtime}.npy", vectors)
    return {"nodes": len(texts)}


def plain_retrieve(folder: Path, _: str) -> dict[str, Any]:
    """Answer one question from the quick start's collection with plain LlamaIndex."""
    from llama_index.core import VectorStoreIndex
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.milvus import MilvusVectorStore

    store = MilvusVectorStore(uri=str(folder / "quick-start.db"), dim=384)
    store.client.load_collection(store.collection_name)
    index = VectorStoreIndex.from_vector_store(
        store, embed_model=HuggingFaceEmbedding(model_name=_model())
    )
    return {"found": len(index.as_retriever(similarity_top_k=5).retrieve(QUESTION))}


def prepare(folder: Path, runtime: str) -> dict[str, Any]:
    """Split the documents once for those that are handed nodes; compile the model."""
    from rag_app.config.sections import DocumentsSection
    from rag_app.documents.discover import discover
    from rag_app.documents.node_parser import NodeParser
    from rag_app.documents.read import read
    from rag_app.embedding.factory import build_embedder

    config = _config(folder, runtime)
    started = time.perf_counter()
    embedder = build_embedder(config.embedding)
    seconds = time.perf_counter() - started
    parser = NodeParser(config.chunking, embedder.tokenize, embedder.content_tokens)
    files = discover([folder / "docs"], DocumentsSection()).files
    texts = [node.text for file in files for node in parser.split(read(file, DocumentsSection()))]
    (folder / "nodes.json").write_text(json.dumps(texts), encoding="utf-8")
    tokens = sum(len(embedder.tokenize(text)) for text in texts)
    return {"nodes": len(texts), "tokens": tokens, "seconds": seconds}


def _node_texts(folder: Path) -> list[str]:
    texts: list[str] = json.loads((folder / "nodes.json").read_text(encoding="utf-8"))
    return texts


CONTENDERS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    work.__name__: work
    for work in (ours, quick_start, walk_through, limit, plain_retrieve, prepare)
}


# --- running and printing them -------------------------------------------------------------------


def run(folder: Path, name: str, runtime: str = "") -> Run:
    """Run a contender in a process of its own."""
    return _measure([sys.executable, __file__, "child", name, str(folder), runtime])


def _measure(command: Sequence[str], **environment: str) -> Run:
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(  # noqa: S603 - commands of our own making
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # with its children
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise click.ClickException(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")
    printed = said.strip().splitlines()[-1] if said.strip().startswith("{") else "{}"
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, json.loads(printed))


def _median(runs: Sequence[Run], field: str) -> float:
    values: list[float] = [getattr(each, field) for each in runs]
    return statistics.median(values)


def _ratio(runs: Sequence[Run], base: Sequence[Run], field: str) -> float:
    """Return the median of the ratios of the runs that were made in the same turn."""
    pairs = zip(runs, base, strict=True)
    ratios: list[float] = [getattr(one, field) / getattr(other, field) for one, other in pairs]
    return statistics.median(ratios)


def _table(rows: Sequence[tuple[str, Sequence[Run]]], base: Sequence[Run]) -> list[str]:
    lines = [
        "| | wall, s | CPU, s | nodes/s | peak, MB | wall, ratio | CPU, ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in rows:
        wall, cpu = _median(runs, "wall"), _median(runs, "cpu")
        nodes = runs[0].said.get("nodes", 0)
        lines.append(
            f"| {name} | {wall:.1f} | {cpu:.1f} | {nodes / wall:.0f} | "
            f"{_median(runs, 'megabytes'):.0f} | {_ratio(runs, base, 'wall'):.2f} | "
            f"{_ratio(runs, base, 'cpu'):.2f} |"
        )
    return lines


def _fill(target: Path, source: Path | None, files: int | None) -> None:
    """Copy the first files of the corpus, or write ones of made-up text."""
    target.mkdir()
    if source is not None:
        found = sorted(path for path in source.rglob("*") if path.is_file())
        for file in found[:files]:
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))
        return
    chance = random.Random(0)  # noqa: S311 - the same text each time, not a secret
    words = ["".join(chance.choices("aeioubcdlmnrst", k=chance.randint(2, 9))) for _ in range(3000)]
    for number in range(files or 25):
        paragraphs = [
            " ".join(chance.choices(words, k=chance.randint(5, 200))) + "." for _ in range(40)
        ]
        (target / f"{number:03}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")


def _cosine(folder: Path, runtime: str) -> float:
    import numpy as np

    one, other = np.load(folder / "torch.npy"), np.load(folder / f"{runtime}.npy")
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    lowest: float = ((one * other).sum(axis=1) / lengths).min().item()
    return lowest


def _bench_ingests(
    folder: Path, runtimes: Sequence[str], repeats: int, *, others: bool
) -> list[str]:
    named = [("as shipped" if runtime == "auto" else runtime, runtime) for runtime in runtimes]
    contenders = [
        *([("LlamaIndex quick start", "quick_start", "")] if others else []),
        *([("walk-through: encode, insert", "walk_through", "")] if others else []),
        *((f"rag_app, {name}", "ours", runtime) for name, runtime in named),
        ("rag_app, as shipped, the first ingest", "ours", FRESH),
        *((f"limit: encoder alone, {name}", "limit", runtime) for name, runtime in named),
    ]
    runs: dict[str, list[Run]] = {label: [] for label, *_ in contenders}
    for _ in range(repeats):
        for label, name, runtime in contenders:
            database = f"ours-{runtime}" if name == "ours" else name.replace("_", "-")
            shutil.rmtree(folder / f"{database}.db", ignore_errors=True)
            shutil.rmtree(folder / FRESH, ignore_errors=True)
            click.echo(f"{label} …", err=True)
            runs[label].append(run(folder, name, runtime))
    lines = _table(list(runs.items()), next(iter(runs.values())))
    for name, runtime in named:
        limits = runs[f"limit: encoder alone, {name}"]
        wall, cpu = (_ratio(runs[f"rag_app, {name}"], limits, field) for field in ("wall", "cpu"))
        said = f"\nrag_app, {name}: {wall:.2f} of its limit's wall time, {cpu:.2f} of its CPU"
        if runtime != "torch" and "torch" in runtimes:
            said += f", lowest cosine to torch {_cosine(folder, runtime):.5f}"
        lines.append(f"{said}.")
    return lines


def _bench_reruns(folder: Path, runtime: str, repeats: int) -> list[str]:
    """Run again over what is ingested: unchanged, then with a paragraph more in one file."""
    starts, unchanged, changed = [], [], []
    file = min(path for path in (folder / "docs").rglob("*") if path.is_file())
    before = file.read_bytes()
    for number in range(repeats):
        click.echo(f"reruns, {runtime} …", err=True)
        starts.append(_measure([sys.executable, "-c", "import rag_app.ingestion.run"]))
        unchanged.append(run(folder, "ours", runtime))
        with file.open("a", encoding="utf-8") as end:
            end.write(f"\n\nAdded in run {number} by the {runtime} benchmark.\n")
        changed.append(run(folder, "ours", runtime))
    file.write_bytes(before)
    rows = []
    for label, runs in (
        ("imports alone", starts),
        ("unchanged rerun", unchanged),
        ("one file changed", changed),
    ):
        embedded = runs[0].said.get("embedded")
        rows.append(
            f"| {label}, {runtime} | {_median(runs, 'wall'):.1f} | {_median(runs, 'cpu'):.1f} | "
            f"{'' if embedded is None else embedded} |"
        )
    return rows


def _bench_retrieval(folder: Path, runtimes: Sequence[str], repeats: int) -> list[str]:
    """Ask one question in a cold process."""
    runs: dict[str, list[Run]] = {"plain LlamaIndex script": []}
    for _ in range(repeats):
        click.echo("one-shot retrieve …", err=True)
        runs["plain LlamaIndex script"].append(run(folder, "plain_retrieve"))
        for runtime in runtimes:
            command = [sys.executable, "-m", "rag_app", "--profile", "offline", "retrieve"]
            environment = {
                "RAG_APP_VECTOR_STORE__URI": str(folder / f"ours-{runtime}.db"),
                "RAG_APP_EMBEDDING__RUNTIME": runtime,
                "RAG_APP_EMBEDDING__COMPILED_FOLDER": str(folder / "compiled"),
            }
            runs.setdefault(f"rag-app retrieve, {runtime}", []).append(
                _measure([*command, QUESTION], **environment)
            )
    return _table(list(runs.items()), runs["plain LlamaIndex script"])


@click.group(invoke_without_command=False)
def main() -> None:
    """Measure ingestion (``bench``); ``child`` is what its processes run."""


@main.command("child", hidden=True)
@click.argument("name", type=click.Choice(list(CONTENDERS)))
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("runtime")
def child(name: str, folder: Path, runtime: str) -> None:
    """Run one contender and print what it did as JSON."""
    click.echo(json.dumps(CONTENDERS[name](folder, runtime)))


@main.command("bench")
@click.argument("source", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--files", type=int, help="Only so many of the folder's files.")
@click.option("--repeats", type=int, default=3, show_default=True)
@click.option("--runtimes", help="Comma-separated; auto and all that are installed unless given.")
@click.option("--alone", is_flag=True, help="Only rag_app and its limit: for thousands of nodes.")
def bench(
    source: Path | None, files: int | None, repeats: int, runtimes: str | None, alone: bool
) -> None:
    """Run everything on SOURCE (made-up text without it) and print Markdown tables."""
    installed = [name for name, library in LIBRARIES.items() if find_spec(library) is not None]
    chosen = runtimes.split(",") if runtimes else ["auto", *installed]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _fill(folder / "docs", source, files)
        for runtime in chosen:
            prepared = run(folder, "prepare", runtime).said
            click.echo(f"{runtime}: ready in {prepared['seconds']:.1f} s", err=True)
        lines = _bench_ingests(folder, chosen, repeats, others=not alone)
        click.echo(
            f"{prepared['nodes']} nodes, {prepared['tokens']} tokens, medians of {repeats} "
            "alternating runs, whole processes; ratios to the first row.\n"
        )
        click.echo("\n".join(lines))
        if alone:
            return
        # Before the reruns, which change the collections.
        retrieval = _bench_retrieval(folder, chosen, repeats)
        click.echo("\n| rerun | wall, s | CPU, s | nodes embedded |\n|---|---|---|---|")
        click.echo("\n".join(_bench_reruns(folder, chosen[0], repeats)))
        click.echo("\nOne-shot retrieve from a cold process:\n\n" + "\n".join(retrieval))


if __name__ == "__main__":
    main()
