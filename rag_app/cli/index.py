"""``rag-app index``: the index over the vectors: look at it, apply it, measure it, choose it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rag_app.cli.common import (
    RagAppGroup,
    common_options,
    config_path,
    echo,
    echo_text,
    load,
    print_json,
    say,
    wants_json,
)
from rag_app.errors import InputError

if TYPE_CHECKING:
    from rag_app.config.sections import Config
    from rag_app.index.schema import IndexBenchmark

F = TypeVar("F", bound=Callable[..., Any])


@click.group(
    "index",
    cls=RagAppGroup,
    epilog="\b\nExamples:\n"
    "  rag-app index show\n"
    "  rag-app --set index.type=HNSW index apply\n"
    "  rag-app index bench --synthetic 10000\n"
    "  rag-app index tune --recall 0.98 --write",
)
@common_options
def index_group() -> None:
    """Look at the index over the vectors, rebuild it, measure it, choose it.

    Which types there are: docs/index-types.md.
    """


@index_group.command(
    "show", epilog="\b\nExamples:\n  rag-app index show\n  rag-app index show --json | jq .built"
)
@common_options
def show_command() -> None:
    """Print the configured index against the one that is there, with rows, size and state."""
    config = load()
    from rag_app.index.apply import show_index

    status = show_index(config)
    if wants_json():
        print_json(status.to_dict())
        return
    echo(f"collection  {status.collection}, {status.rows} rows, {status.backend}")
    echo(f"configured  {_describe(status.configured)}")
    if status.chosen:
        echo(f"chosen      {_chosen(status.chosen)}")
    echo(f"built       {_describe(status.built)}")
    for read in status.read_back:
        params = ", ".join(f"{name} = {value}" for name, value in read.items() if name != "kind")
        echo(f"  file      {read['kind']}: {params}")
    echo(f"state       {status.state}, {status.indexed_rows} rows indexed")
    echo(f"size        {status.size / 1e6:.1f} MB ({status.size_of})")
    if status.differs:
        echo(f"differs     {'; '.join(status.differs)}")
        say("to have the configured one: rag-app index apply")


def _describe(index: Any) -> str:
    text = f"{index['type']} by {index['metric']}"
    for kind, word in (("params", "built with"), ("search_params", "searched with")):
        if values := index.get(kind):
            text += f", {word} " + ", ".join(f"{name} = {value}" for name, value in values.items())
    return text


def _chosen(chosen: Any) -> str:
    """Say what was chosen for the rows, and what a search finds with it."""
    values = {**chosen["params"], **chosen["search_params"]}
    text = ", ".join(f"{name} = {value}" for name, value in values.items())
    text += f" for {chosen['rows']:,} rows"
    if chosen["recall"] is not None:
        text += f": a search finds {chosen['recall']:.3f} of what an exact search finds"
    return text


@index_group.command(
    "apply",
    epilog="\b\nExamples:\n"
    "  rag-app index apply\n"
    "  rag-app --set index.type=HNSW --set 'index.params={M = 32}' index apply --dry-run",
)
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@common_options
def apply_command(dry_run: bool) -> None:
    """Make the collection's index the configured one; no row is written or embedded again.

    What is not configured and follows the number of rows (nlist, nprobe, ef) is chosen anew.

    Until it is done searches wait (Milvus Lite) or fail (a server). If it is killed, the next
    command that opens the collection completes it. It is refused while another process writes to
    the collection (Milvus Lite), unless --wait says how long to wait.
    """
    config = load()
    from rag_app.index.apply import apply_index

    change = apply_index(config, dry_run=dry_run)
    if wants_json():
        print_json(change.to_dict())
        return
    if not change.changes:
        echo(f"nothing to build: the index is {_describe(change.after)}")
        if change.chosen:
            echo(f"chosen: {_chosen(change.chosen)}")
        return
    for line in change.changes:
        echo(line)
    if dry_run:
        echo(f"{change.rows} rows (dry run: nothing was done)")
        return
    steps = ", ".join(
        f"{step} {seconds:.2f} s" for step, seconds in change.seconds.items() if step != "total"
    )
    echo(f"{change.rows} rows, {change.seconds['total']:.2f} s: {steps}")
    if change.chosen:
        echo(f"chosen: {_chosen(change.chosen)}")
    elif change.recall is not None:
        echo(f"a search finds {change.recall:.3f} of what an exact search finds")


def _measuring(command: F) -> F:
    """Add the options that say what is measured."""
    for option in reversed(
        [
            click.option(
                "--types",
                metavar="TYPE,…",
                default="",
                help="Index types; unset: all that the backend builds.",
            ),
            click.option(
                "--questions",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Questions to search for, as for rag-app batch; unset: vectors held out.",
            ),
            click.option(
                "--sample",
                metavar="ROWS",
                type=click.IntRange(min=20),
                default=100_000,
                show_default=True,
                help="Measure on at most this many rows of the collection.",
            ),
            click.option(
                "--synthetic",
                metavar="ROWS",
                type=click.IntRange(min=20),
                help="Measure on made-up clustered vectors instead; needs no collection.",
            ),
            click.option(
                "--dim",
                metavar="N",
                type=click.IntRange(min=2, max=32_768),
                default=384,
                show_default=True,
                help="Dimension of made-up vectors.",
            ),
            click.option(
                "--picture",
                metavar="FILE",
                type=click.Path(path_type=Path),
                help="Draw recall against latency as a PNG.",
            ),
        ]
    ):
        command = option(command)
    return command


@index_group.command(
    "bench",
    epilog="\b\nExamples:\n"
    "  rag-app index bench\n"
    "  rag-app index bench --types HNSW,IVF_FLAT --questions questions.jsonl\n"
    "  rag-app index bench --synthetic 10000 --picture recall.png",
)
@_measuring
@common_options
def bench_command(**options: Any) -> None:
    """Measure what index types cost and what they find, on a scratch copy of the vectors.

    For each type and a sweep of its search parameter: recall against exact search, latency of a
    search for one question and of one for 100, seconds to build, size. The collection is only read.
    """
    config = load()
    benchmark = _measure(config, **options)
    if wants_json():
        print_json(benchmark.to_dict())
    else:
        _print(benchmark)


@index_group.command(
    "tune",
    epilog="\b\nExamples:\n"
    "  rag-app index tune --recall 0.98\n"
    "  rag-app index tune --recall 0.95 --questions questions.jsonl --write",
)
@click.option(
    "--recall",
    type=click.FloatRange(min=0, max=1, min_open=True),
    required=True,
    help="Recall to reach, e.g. 0.98.",
)
@click.option("--write", is_flag=True, help="Write the choice into config.toml; comments stay.")
@_measuring
@common_options
def tune_command(recall: float, write: bool, **options: Any) -> None:
    """Find the index with the lowest median latency that reaches a recall.

    Among those that are as fast, it is the smallest. With --write it goes into the profile that is
    on, if that sets the index, else into [index]; rag-app index apply then builds it.
    """
    config = load()
    from rag_app.index.bench.tune import check_can_write, choose, write_choice
    from rag_app.load import check_file_text

    # Before the measuring, which takes minutes: its result would have nowhere to go.
    if write:
        check_can_write(config, config_path())
    benchmark = _measure(config, **options)
    chosen = choose(benchmark, recall)
    wrote = write_choice(config, chosen, check_file_text, config_path()) if write else ""
    if wants_json():
        print_json({"chosen": chosen.to_dict(), "wrote": wrote, **benchmark.to_dict()})
        return
    _print(benchmark)
    echo(
        "",
        f"{_describe({**chosen.to_dict(), 'metric': benchmark.metric})}: "
        f"recall {chosen.recall:.3f}, {chosen.p50_ms:.1f} ms",
    )
    if write:
        say(wrote, "build it: rag-app index apply")
    else:
        say("write it: the same with --write")


def _measure(
    config: "Config",
    *,
    types: str,
    questions: Path | None,
    sample: int,
    synthetic: int | None,
    dim: int,
    picture: Path | None,
) -> "IndexBenchmark":
    names = _type_names(types)
    if picture is not None and not picture.absolute().parent.is_dir():
        raise InputError(f"there is no folder for the picture {picture}", "make it first")
    if synthetic is not None and questions is not None:
        raise InputError("made-up vectors have no questions", "leave --questions or --synthetic")
    from rag_app.index.bench import report
    from rag_app.index.bench.bench import measure_indexes
    from rag_app.index.bench.vectors import clustered_vectors, collection_vectors, hold_out

    if synthetic is None:
        vectors, asked, about = collection_vectors(config, sample=sample, questions=questions)
    else:
        count = min(1000, synthetic // 5)
        vectors, asked = hold_out(clustered_vectors(synthetic + count, dim), count=count)
        about = f"{synthetic} made-up clustered vectors, {count} held out as questions"
    if picture is not None:
        # As well before the measuring.
        report.require_matplotlib()
    benchmark = measure_indexes(config, vectors, asked, about, types=names, say=say)
    if few := report.few_rows(benchmark):
        say(few)
    if picture is not None:
        report.picture(benchmark, picture)
    return benchmark


def _type_names(types: str) -> list[str]:
    from rag_app.config.index_types import INDEX_TYPES

    names = [name.strip().upper() for name in types.split(",") if name.strip()]
    for name in names:
        if name not in INDEX_TYPES:
            raise InputError(
                f"{name!r} in --types is no index type", f"use some of {', '.join(INDEX_TYPES)}"
            )
    return names


def _print(benchmark: "IndexBenchmark") -> None:
    from rag_app.index.bench.report import table

    say(
        f"{benchmark.vectors}; {benchmark.dimension} dimensions, {benchmark.metric}, recall of the "
        f"nearest {benchmark.top_k}, {benchmark.backend}"
    )
    echo_text(table(benchmark))
