"""``rag-app eval``: how good retrieval and answers are, on questions with known answers."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    INTERRUPTED,
    RagAppGroup,
    common_options,
    echo_text,
    is_same_file,
    load,
    print_json,
    progress_bar,
    say,
    wants_json,
)
from rag_app.errors import ConfigError, InputError, LLMError, UserError

if TYPE_CHECKING:
    from rag_app.evaluation.judge import Judge
    from rag_app.evaluation.study import Settings

_EXAMPLES = (
    "\b\nExamples:\n"
    "  rag-app eval questions.jsonl\n"
    "  rag-app eval questions.jsonl --sample 300 --html report.html\n"
    "  rag-app eval questions.jsonl --variant as-is --variant short:chunking.size=128\n"
    "  rag-app eval questions.jsonl --variant best-last --variant first:prompt.order=best_first\n"
    "  rag-app eval questions.jsonl --fail-under hit@5=0.85 --json"
)


class _EvalGroup(RagAppGroup):
    """A group whose first argument may be a file: then it is ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("eval", cls=_EvalGroup, epilog=_EXAMPLES)
@common_options
def eval_group() -> None:
    """Measure how good retrieval and answers are, on questions with known answers.

    "rag-app eval QUESTIONS" is short for "rag-app eval run QUESTIONS".
    """


@eval_group.command("run", epilog=_EXAMPLES)
@click.argument("questions")
@click.option(
    "--variant",
    "texts",
    multiple=True,
    metavar="NAME[:KEY=VALUE,…]",
    help="A configuration to compare, by what it changes; repeat it. The others are compared with "
    "the first; a name alone changes nothing.",
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Ask N, chosen at random.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option(
    "--depth",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Nodes retrieved for each question; the best retrieval.similarity_top_k are packed.",
)
@click.option(
    "--timed",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="Questions asked one by one and timed; the others are asked together.",
)
@click.option(
    "--answers/--no-answers",
    default=None,
    help="Whether to answer, or only to retrieve; default: if an LLM is configured.",
)
@click.option("--abstains", metavar="REGEX", help="What answers say that give none.")
@click.option(
    "--judge",
    "judges",
    metavar="NAME,…",
    help="Have an LLM grade answers: faithfulness, relevancy, correctness.",
)
@click.option(
    "--judge-llm",
    multiple=True,
    metavar="KEY=VALUE",
    help="Grade with another LLM than the one that answers: the keys of [llm] that differ.",
)
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write a report.")
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit 1 if a variant's metric is lower, e.g. hit@5=0.85; repeat it.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Where outcomes are kept; default: eval, beside the database.",
)
@click.option("--fresh", is_flag=True, help="Do not go on from outcomes that are there.")
@common_options
def run_command(
    questions: str,
    texts: tuple[str, ...],
    sample: int | None,
    judges: str | None,
    judge_llm: tuple[str, ...],
    html: str | None,
    fail_under: tuple[str, ...],
    results: str | None,
    **settings: Any,
) -> None:
    """Ask QUESTIONS (JSON Lines or CSV) of the collection, and say how well it did.

    A line has "question" and any of "answers", "file", "gold" (file to keywords), "paragraph" and
    "contexts"; empty "answers" mean that the documents do not answer it. Figures come with 95%
    intervals. Ctrl-C stops; the same command goes on from there.
    """
    # The page is written at the very end: over the questions, which nothing would bring back.
    if html and is_same_file(questions, html):
        raise InputError(f"{html} is the file of the questions", "name another one after --html")
    config = load()
    from rag_app.evaluation.compare import results_folder  # LlamaIndex, Milvus: 3 s
    from rag_app.evaluation.questions import read_questions
    from rag_app.evaluation.questions import sample as choose
    from rag_app.evaluation.study import conduct, quality_names
    from rag_app.evaluation.summary import summarize
    from rag_app.evaluation.terminal import table
    from rag_app.evaluation.variants import make_variants
    from rag_app.milvus.store import split_as_made

    read, bad = read_questions(Path(questions))
    for line in bad:
        say(f"line {line.line}: {line.reason}")
    # How a collection was split is known from it: no variant has to say it again.
    config = split_as_made(config)
    variants = make_variants(config, texts, load)
    how = _settings(**settings)
    judge = _judge(judges, judge_llm)
    gate = _gate(fail_under, quality_names(variants, how, judge))
    try:
        study = conduct(
            config,
            variants,
            choose(read, sample, how.seed),
            how,
            Path(results) if results else results_folder(config),
            judge=judge,
            progress_bar=progress_bar,
            say=say,
        )
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here")
        click.get_current_context().exit(INTERRUPTED)
    finally:
        if judge:
            judge.close()
    summary = summarize(study)
    summary["questions"] = {"file": questions, "in_file": len(read), **summary["questions"]}
    summary["questions"]["bad_lines"] = [line.to_dict() for line in bad]
    summary["gate"] = _failures(gate, summary)
    if html:
        _write_page(html, summary)
    if wants_json():
        print_json(summary)
    else:
        echo_text(table(summary))
    _tell_end(questions, summary)


@eval_group.command(
    "generate",
    epilog="\b\nExamples:\n"
    "  rag-app --profile gpu eval generate -n 50 -o questions.jsonl\n"
    "  rag-app --set llm.backend=vllm-server eval generate -n 200 -o questions.jsonl --seed 1",
)
@click.option(
    "-n", "number", type=click.IntRange(min=1), default=50, show_default=True, help="How many."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where they go, as JSON Lines; it must not be there yet.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of nodes.")
@common_options
def generate_command(number: int, output: str, seed: int) -> None:
    """Make questions from the collection's own documents, with the configured LLM.

    Nodes of all documents are asked about in turn. A question is kept if it makes sense alone, its
    answer is a quotation from its node, and no other says the same. Read them before you rely on
    them: a model asks what is easy to ask.
    """
    config = load()
    if config.llm.backend == "extractive":
        raise ConfigError(
            'llm.backend is "extractive", which cannot write questions',
            "switch a language model on: --profile cpu, --profile gpu or "
            "--set llm.backend=vllm-server",
        )
    from rag_app.evaluation.generate import Tally, generate  # LlamaIndex, Milvus: 3 s
    from rag_app.llms import build_llm
    from rag_app.milvus.store import open_store

    store = open_store(config)
    tally = Tally()
    llm = build_llm(config.llm)
    try:
        # Opened before the first question is made: a file that cannot be written is told at once.
        with _new_file(output) as file, progress_bar("writing questions") as progress:
            for made in generate(store, llm, number, seed=seed, tally=tally, progress=progress):
                file.write(json.dumps(made.to_dict(), ensure_ascii=False) + "\n")
                # Each at once: what the model wrote stays if it fails at the next.
                file.flush()
    finally:
        llm.close()
    if wants_json():
        print_json({**tally.to_dict(), "file": output})
    say(
        f"{tally.kept} questions in {output}; {tally.asked} nodes were asked about: "
        f"{tally.no_question} replies had no question, {tally.unanswerable} had an answer that is "
        f"no quotation from the node, {tally.duplicates} were there already"
    )
    if tally.kept < number:
        raise LLMError(
            f"only {tally.kept} of {number} questions could be made",
            "ask for fewer, ingest more, or use a larger model",
        )


def _new_file(name: str) -> IO[str]:
    try:
        return Path(name).open("x", encoding="utf-8")
    except FileExistsError:
        raise InputError(f"{name} is there already", "name another file after -o") from None
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error}", "name another file") from error


def _settings(abstains: str | None, **values: Any) -> "Settings":
    """Make the settings of the options that are called as they are."""
    from rag_app.evaluation.study import Settings

    try:
        if abstains:
            values["abstains"] = re.compile(abstains, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(
            f"--abstains {abstains!r} is not a regular expression: {error}", "mend it"
        ) from None
    return Settings(**values)


def _judge(names: str | None, assignments: Sequence[str]) -> "Judge | None":
    """Build the judge that was asked for; its LLM is the configured one with these keys changed."""
    if names is None:
        if assignments:
            raise InputError("--judge-llm without --judge", "add --judge faithfulness")
        return None
    from rag_app.evaluation.judge import Judge

    asked = [name.strip() for name in names.split(",") if name.strip()]
    overrides = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(
                f"--judge-llm {text!r} is not of the form KEY=VALUE", "write e.g. model=NAME"
            )
        overrides[f"llm.{key.strip().removeprefix('llm.')}"] = value.strip()
    return Judge(asked, load(overrides).llm if overrides else None)


def _gate(texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Read METRIC=VALUE, before anything is asked."""
    gate = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if name not in known:
            raise InputError(
                f"--fail-under {text!r}: {name!r} is not measured here",
                f"use one of {', '.join(known)}",
            )
        try:
            gate[name] = float(value)
        except ValueError:
            raise InputError(
                f"--fail-under {text!r}: {value!r} is not a number", "write e.g. hit@5=0.85"
            ) from None
    return gate


def _failures(gate: Mapping[str, float], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare every variant with the gate; a metric that no question has fails as well."""
    checks = []
    for variant in summary["variants"]:
        for name, least in gate.items():
            value = variant["metrics"].get(name, {}).get("value")
            passed = value is not None and value >= least
            checks.append(
                {
                    "variant": variant["name"],
                    "metric": name,
                    "at_least": least,
                    "value": value,
                    "passed": passed,
                }
            )
    return checks


def _write_page(file: str, summary: Mapping[str, Any]) -> None:
    from rag_app.evaluation.page import render

    try:
        Path(file).write_text(render(summary), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error}", "name another file") from error
    say(f"the report is in {file}")


def _tell_end(questions: str, summary: Mapping[str, Any]) -> None:
    """Say what is not in the table, and end with the exit code that is due."""
    for variant in summary["variants"]:
        for line in variant["bad_lines"]:
            say(f"{variant['name']}: line {line['line']} was not asked: {line['reason']}")
        if variant["out_of_reach"]:
            say(
                f"{variant['name']}: the answer to {variant['out_of_reach']} questions is whole in "
                "no node of the collection"
            )
    if bad := summary["questions"]["bad_lines"]:
        raise UserError(
            f"{len(bad)} lines of {questions} are no questions: "
            + ", ".join(str(line["line"]) for line in bad[:20]),
            "mend these lines and run the same again: the others are not asked again",
        )
    lines = {line["line"] for variant in summary["variants"] for line in variant["bad_lines"]}
    if lines:
        raise UserError(
            f"{len(lines)} questions could not be asked of every variant, and are in no figure",
            "shorten them, or raise the LLM's window",
        )
    failed = [check for check in summary["gate"] if not check["passed"]]
    for check in failed:
        value = "not measured" if check["value"] is None else f"{check['value']:.3f}"
        say(
            f"failed: {check['variant']}: {check['metric']} is {value}, "
            f"at least {check['at_least']:g} was asked for"
        )
    if failed:
        click.get_current_context().exit(1)
