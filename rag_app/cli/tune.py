"""``rag-app tune``: the settings that do best on a user's own questions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    common_options,
    config_path,
    echo,
    load,
    print_json,
    progress_bar,
    say,
    wants_json,
)
from rag_app.errors import InputError

if TYPE_CHECKING:
    from rag_app.config.sections import Config
    from rag_app.evaluation.tune import Tuned

_WRITTEN = [
    *("retrieval.mode", "retrieval.fusion", "retrieval.text_weight", "retrieval.candidates"),
    *("retrieval.expand", "retrieval.similarity_top_k"),
]


@click.command(
    "tune",
    epilog="\b\nExamples:\n"
    "  rag-app tune questions.jsonl\n"
    "  rag-app tune questions.jsonl --max-latency-ms 50 --html tune.html\n"
    "  rag-app tune questions.jsonl --rebuild --write",
)
@click.argument("questions", type=click.Path(dir_okay=False))
@click.option(
    "--max-latency-ms",
    "most_ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Median milliseconds that a retrieval may take, without embedding the question.",
)
@click.option(
    "--max-context-tokens",
    "most_tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of the contexts; default: what the configuration takes at most.",
)
@click.option("--rebuild", is_flag=True, help="Try nodes of other sizes, too: ingests again.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write a report.")
@click.option("--write", is_flag=True, help="Write what was found into config.toml.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@common_options
def tune_command(questions: str, html: str | None, write: bool, **options: Any) -> None:
    """Find the retrieval settings that do best on QUESTIONS, as `rag-app eval` reads them.

    Mode, fusion, candidates, expansion, how many nodes, what a configured reranker reads and, with
    --rebuild, the nodes' size. What is found is asked about documents that the search has not seen:
    if it is no better there, beyond noise, what is configured stays. The confidence is fitted anew
    on the questions, each with and without the documents that answer it.
    """
    config = load()
    from rag_app.config.values_file import check_can_write
    from rag_app.evaluation.questions import read_questions  # LlamaIndex, Milvus: 3 s
    from rag_app.evaluation.tune import name_of
    from rag_app.evaluation.tuning import Tuning
    from rag_app.milvus.store import split_as_made

    if write:  # before the search, which takes minutes
        for keys in (_WRITTEN, ["answer.confidence"]):
            check_can_write(config, keys, config_path())
    read, bad = read_questions(Path(questions))
    for line in bad:
        say(f"line {line.line}: {line.reason}")
    tuning = Tuning(split_as_made(config), read, load, say)
    with progress_bar("tuning") as progress:
        tuned = tuning.search(progress=progress, **options)
    setting = tuned.best if tuned.is_gain else {}
    fitted = tuning.fit_confidence(setting)
    if html:
        _write_page(html, questions, tuned)
    wrote = _write(config, setting, fitted) if write else ""
    if wants_json():
        print_json({**tuned.to_dict(), "fitted": fitted is not None, "wrote": wrote})
        return
    for trial in tuned.trials[:5]:
        echo(f"{trial.quality.value:.3f}  {trial.ms:6.1f} ms  {name_of(trial.overrides)}")
    echo("", verdict(tuned))
    if wrote:
        say(wrote)
    elif setting or fitted:
        say("write it: the same with --write")


def verdict(tuned: "Tuned") -> str:
    """Return what was found, and what to expect of it."""
    from rag_app.evaluation.tune import name_of

    gain = f"{tuned.gain.value:+.3f} [{tuned.gain.low:+.3f}, {tuned.gain.high:+.3f}]"
    told = (
        f"on documents that the search had not seen {gain}, p = {tuned.p:.2g}; on those that it "
        f"chose by {tuned.seen_gain:+.3f}"
    )
    if not tuned.is_gain:
        return f"keep what you have: of {tuned.tried} settings none is better beyond noise ({told})"
    expected = tuned.expected
    return (
        f"{name_of(tuned.best)}\nexpect {expected['quality']:.3f} on new questions, where what is "
        f"configured has {expected['configured']:.3f} ({told})"
    )


def _write(config: "Config", setting: Mapping[str, Any], fitted: Mapping[str, Any] | None) -> str:
    from rag_app.config.values_file import write_values
    from rag_app.load import check_file_text

    keys = dict(setting)
    if fitted is not None:
        store = config.vector_store
        beside = Path(store.uri if store.is_file else config.embedding.compiled_folder).absolute()
        file = beside.parent / f"confidence-{store.collection}.json"
        file.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
        keys["answer.confidence"] = str(file)
    said = []
    for section in dict.fromkeys(key.partition(".")[0] for key in keys):
        some = {key: value for key, value in keys.items() if key.startswith(f"{section}.")}
        said.append(write_values(config, some, check_file_text, config_path()))
    return "\n".join(said) or "nothing to write"


def _write_page(file: str, questions: str, tuned: "Tuned") -> None:
    from rag_app.evaluation.tune_page import render

    try:
        Path(file).write_text(render(tuned, questions, verdict(tuned)), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error}", "name another file") from error
    say(f"the report is in {file}")
