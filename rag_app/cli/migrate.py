"""``rag-app plan`` and ``migrate``: another model, node size or language without downtime."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    INTERRUPTED,
    common_options,
    echo,
    load,
    print_json,
    progress_bar,
    say,
    stop_on_interrupt,
    wants_json,
)
from rag_app.errors import InputError

if TYPE_CHECKING:
    from rag_app.config.sections import Config
    from rag_app.migration.migrate import Approve, MigrationReport
    from rag_app.migration.plan import Plan

SOMETHING_TO_DO = 3
"""Exit code of ``rag-app plan``."""


@click.command(
    "plan",
    epilog="\b\nExamples:\n"
    "  rag-app plan\n"
    "  rag-app --set chunking.size=128 plan\n"
    "  rag-app plan --no-measure --json || rag-app migrate",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Whether to load the model, and tell how long it would take.",
)
@common_options
def plan_command(measure: bool) -> None:
    """Compare the configuration with its collection; exit 3 if there is something to do.

    What differs is changed in place (the index), or needs a new collection with other nodes,
    vectors or words, which rag-app migrate builds beside the one that is there.
    """
    config = load()
    from rag_app.migration.plan import plan  # LlamaIndex, Milvus: 3 s

    found = plan(config, measure=measure)
    if wants_json():
        print_json({**found.to_dict(), "needs": sorted(found.needs)})
    else:
        _print_plan(found)
    if found.changes:
        click.get_current_context().exit(SOMETHING_TO_DO)


@click.command(
    "migrate",
    epilog="\b\nExamples:\n"
    "  rag-app migrate\n"
    '  rag-app migrate --compare questions.jsonl --require "hit@5 >= -0.01"\n'
    "  rag-app migrate --rollback\n"
    "  rag-app migrate --finish",
)
@click.option(
    "--compare",
    metavar="QUESTIONS",
    help="Ask both collections these questions before the switch, and print the differences.",
)
@click.option(
    "--require",
    multiple=True,
    metavar="CONDITION",
    help='Switch only if a figure has changed by at least so much, e.g. "hit@5 >= -0.01"; repeat '
    "it. Wants --compare.",
)
@click.option("--build-only", is_flag=True, help="Do not switch.")
@click.option(
    "--without-missing",
    is_flag=True,
    help="Leave out documents whose files are gone, where nodes have to be made again.",
)
@click.option("--rollback", is_flag=True, help="Switch back to the former collection.")
@click.option("--finish", is_flag=True, help="Drop the collection that is not used.")
@common_options
def migrate_command(
    compare: str | None,
    require: tuple[str, ...],
    build_only: bool,
    without_missing: bool,
    rollback: bool,
    finish: bool,
) -> None:
    """Make the collection what the configuration says, while the present one goes on answering.

    A new collection is built beside it: vectors are taken over where they are the same, nodes are
    made from the stored texts where only the vectors change, and from the files otherwise. Then one
    step makes the collection's name mean the new one, under running questions. Ctrl-C, and even
    kill -9, cost nothing: the same command goes on from there.
    """
    if rollback and finish:
        raise InputError("--rollback and --finish exclude each other", "roll back first")
    if require and not compare:
        raise InputError("--require without --compare", "add --compare QUESTIONS")
    config = load()
    from rag_app.migration import migrate as library  # LlamaIndex, Milvus: 3 s

    if rollback:
        _tell(library.roll_back(config))
        return
    if finish:
        _tell(library.finish(config))
        return
    report = run_migration(
        config,
        compare=compare,
        require=require,
        switch=not build_only,
        without_missing=without_missing,
    )
    _tell(report)
    if report.interrupted:
        say("interrupted: the same command goes on from here")
        click.get_current_context().exit(INTERRUPTED)


def run_migration(
    config: "Config", *, compare: str | None, require: tuple[str, ...], **how: Any
) -> "MigrationReport":
    """Migrate, with progress on standard error."""
    from rag_app.migration import migrate as library

    approve = _approval(compare, require) if compare else None
    with stop_on_interrupt() as stop, _bars() as show:
        return library.migrate(config, approve=approve, stop=stop, show=show, **how)


def migrate_first(config: "Config") -> None:
    """Migrate before an ingest, if ``migration.auto`` is "compare" and there is something to do."""
    if config.migration.auto != "compare":
        return
    from rag_app.migration.migrate import finish
    from rag_app.migration.plan import plan

    try:
        found = plan(config, measure=False)
    except InputError:  # there is no collection yet
        return
    if not found.needs_migration:
        return
    if found.is_switched:  # a former migration, which nobody took back
        finish(config)
    section = config.migration
    report = run_migration(
        config, compare=section.questions or None, require=tuple(section.require)
    )
    say(f"{report.action}: {report.name} means {report.collection}")


def _approval(questions: str, require: tuple[str, ...]) -> "Approve":
    from rag_app.evaluation.compare import compare, read_requirement
    from rag_app.evaluation.questions import read_questions
    from rag_app.evaluation.terminal import table

    wanted = [read_requirement(text) for text in require]
    read, bad = read_questions(Path(questions))
    for line in bad:
        say(f"line {line.line}: {line.reason}")

    def approve(before: "Config", after: "Config") -> None:
        summary = compare(before, after, read, wanted, progress_bar=progress_bar, say=say)
        say(*table(summary).splitlines())
        for failed in summary["failed"]:
            say(f"refused: {failed}")
        if summary["failed"]:
            raise InputError(
                "the new collection was built and is worse than what is required: "
                + "; ".join(summary["failed"]),
                "rag-app migrate --finish drops it; without --require it is switched to anyway",
            )

    return approve


@contextmanager
def _bars() -> Iterator[Callable[[str, float], None]]:
    """Yield what draws how far a step is, on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _share: None
        return
    with ExitStack() as stack:
        drawn: dict[str, Any] = {}

        def show(what: str, share: float) -> None:
            if what not in drawn:
                stack.close()
                drawn.clear()
                drawn[what] = stack.enter_context(
                    click.progressbar(length=1000, label=what, file=sys.stderr)
                )
            drawn[what].update(int(share * 1000) - drawn[what].pos)

        yield show


def _print_plan(found: "Plan") -> None:
    echo(f"{found.name}: {found.rows:,} nodes in {found.uri}")
    rows = [("", "collection", "configuration", "needs")]
    rows += [(each.key, str(each.made), str(each.wanted), each.needs) for each in found.changes]
    if found.changes:
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        for row in rows:
            cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
            echo("  ".join([*cells, row[3]]).rstrip())
    echo(f"unchanged: {', '.join(found.unchanged) or 'nothing'}")
    if found.cost is not None:
        echo(_cost(found.cost.to_dict()))
        for path in found.cost.missing[:5]:
            say(f"its file is not there any more: {path}")
    if found.other:
        state = "rag-app migrate --rollback goes back to it" if found.is_switched else "unfinished"
        echo(f"kept: {found.other} ({state}; rag-app migrate --finish drops it)")
    echo(f"to do: {found.command}" if found.command else "nothing to do")


def _cost(cost: Mapping[str, Any]) -> str:
    size = f"{cost['bytes'] / 1e6:,.1f} MB beside the collection"
    if not cost["nodes"]:
        return f"cost: {cost['rows']:,} nodes to copy, none to embed, about {size}"
    seconds = cost["seconds"]
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"
    return (
        f"cost: at most {cost['nodes']:,} nodes to embed, {cost['tokens']:,} tokens, {time} at the "
        f"measured speed, about {size}"
    )


def _tell(report: "MigrationReport") -> None:
    if wants_json():
        print_json(report.to_dict())
        return
    for line in report.skipped:
        say(f"skipped {line}")
    for line in report.notes:
        echo(line)
    if report.rows and report.action in {"built", "switched"}:
        echo(
            f"nodes: {report.rows:,}, {report.embedded:,} embedded, {report.reused:,} with vectors "
            "that were there"
        )
        times = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items())
        echo(f"time: {times}")
    echo(f"{report.action}: {report.name} means {report.collection}")
    if report.action == "switched":
        say(
            f"{report.other} is kept: rag-app migrate --rollback goes back to it, "
            "rag-app migrate --finish drops it"
        )
    elif report.action == "built" and not report.interrupted:
        say(f"{report.other} is built: rag-app migrate switches to it")
