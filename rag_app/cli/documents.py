"""``rag-app ingest``, ``watch``, ``documents`` and ``verify``: what goes in, what is in there."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    INTERRUPTED,
    RagAppGroup,
    common_options,
    echo,
    echo_text,
    is_verbose,
    load,
    print_json,
    say,
    stop_on_interrupt,
    wants_json,
)
from rag_app.cli.migrate import migrate_first
from rag_app.cli.terminal import one_line

if TYPE_CHECKING:
    from rag_app.schema import IngestProgress, IngestReport


@click.command(
    "ingest",
    epilog="\b\nExamples:\n"
    "  rag-app ingest docs/\n"
    "  rag-app ingest docs/ --prune --dry-run\n"
    "  rag-app ingest /srv/handbook --moved-from ~/handbook\n"
    '  rag-app ingest report.pdf "notes/**/*.md"\n'
    "  rag-app ingest https://docs.example.org/sitemap.xml\n"
    "  rag-app --profile gpu ingest docs/ --json",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--prune", is_flag=True, help="Delete documents whose file is gone from PATH.")
@click.option("--yes", is_flag=True, help="Do not ask before most or all of a folder is pruned.")
@click.option(
    "--moved-from",
    metavar="OLD",
    help="PATH, one folder, lay at OLD before: take its documents over, embed nothing again.",
)
@click.option("--dry-run", is_flag=True, help="Read the files; only print what would be done.")
@common_options
def ingest_command(
    paths: tuple[str, ...], prune: bool, yes: bool, moved_from: str | None, dry_run: bool
) -> None:
    """Make the collection equal to folders, files and globs.

    Only what differs is done: files that did not change are left alone, of a changed file only the
    nodes with new text are embedded. What is not under PATH is never touched. A file that cannot be
    read is skipped, and the report says why. Ctrl-C writes what is embedded, and the next ingest
    goes on from there. A PATH that is the address of a page, a sitemap or a list of pages
    ("https://…", extra "web") is fetched, within what its robots.txt allows.

    --prune deletes only what was looked for and is gone: documents under folders that cannot be
    read, dangling links and folders that are away are kept, and named. It asks before it deletes
    more than half of a folder's documents, or all of a folder that is empty now, as one is where a
    share was mounted; without a terminal it wants --yes.
    """
    config = load()
    from rag_app.ingestion.run import ingest  # LlamaIndex, Milvus: 3 s

    if not dry_run:
        migrate_first(config)

    def ask(question: str) -> bool:
        # Names of folders are in the question, and may hold what a terminal obeys.
        return yes or click.confirm(one_line(f"{question}; do it?"), err=True)

    with stop_on_interrupt() as stop, _ingest_bar() as progress:
        report = ingest(
            config,
            paths,
            prune=prune,
            # None makes it an error where nobody can be asked: whatever
            # comes down a pipe would be the answer.
            confirm=ask if yes or sys.stdin.isatty() else None,
            moved_from=moved_from,
            dry_run=dry_run,
            progress=progress,
            stop=stop,
        )
    if wants_json():
        print_json(report.to_dict())
    else:
        _print_report(report)
    if report.interrupted:
        say("interrupted: the next rag-app ingest goes on from here")
        click.get_current_context().exit(INTERRUPTED)


@click.command(
    "watch", epilog="\b\nExamples:\n  rag-app watch docs/\n  rag-app watch docs/ notes/ --prune"
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--prune", is_flag=True, help="Delete documents when their file is deleted.")
@common_options
def watch_command(paths: tuple[str, ...], prune: bool) -> None:
    """Ingest PATH, and again whenever something changes there, until Ctrl-C.

    A burst of changes is waited out. A file that cannot be read, or a Milvus server that is away,
    does not end it: the next change tries again.
    """
    config = load()
    from rag_app.ingestion.watch import watch

    migrate_first(config)
    with stop_on_interrupt() as stop:
        for report in watch(config, paths, prune=prune, stop=stop, say=say):
            if wants_json():
                print_json(report.to_dict())
            else:
                _print_report(report)


_STEPS = 10_000
"""Of the bar: fine enough for a step of a second in an ingest of hours."""


@contextmanager
def _ingest_bar() -> Iterator["Callable[[IngestProgress], None]"]:
    """Yield what draws a bar with rate and time left on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with ExitStack() as stack:
        bar: Any = None

        def update(told: "IngestProgress") -> None:
            nonlocal bar
            bar = bar or stack.enter_context(
                click.progressbar(
                    length=_STEPS,
                    label="ingesting",
                    show_eta=False,
                    # Nothing is told yet when click draws the bar for the first time.
                    item_show_func=lambda each: _rate(each) if each else "",
                    file=sys.stderr,
                )
            )
            # click's bar takes steps, and not places.
            bar.update(int(told.share * _STEPS) - bar.pos, told)

        yield update


def _rate(told: "IngestProgress") -> str:
    left = told.seconds_left
    if left is None or told.share == 1:
        return f"{told.nodes:,} nodes"
    hours, minutes = divmod(round(left / 60), 60)
    wait = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{left:.0f} s"
    return f"{told.nodes:,} nodes, {told.nodes_per_second:.0f}/s, {wait} left"


_IN_WORDS = {"gone": "gone (delete with --prune)", "protected": "out of sight (kept)"}


def _print_report(report: "IngestReport") -> None:
    for note in report.notes:
        say(note)
    for skipped in report.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    if is_verbose():
        for warning in report.warnings:
            say(f"warning {warning.path}: {warning.message}")
    elif warned := {warning.path for warning in report.warnings}:
        say(f"{len(warned)} {'file' if len(warned) == 1 else 'files'} with warnings; -v shows them")
    kinds = {
        "new": report.new,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "gone": report.gone,
        "skipped": report.skipped,
        "protected": report.protected,
    }
    if report.dry_run:
        for kind in ("new", "changed", "removed", "gone"):
            for path in kinds[kind]:
                echo(f"{kind:<8} {path}")
    words = [
        f"{len(paths)} {_IN_WORDS.get(kind, kind)}"
        for kind, paths in kinds.items()
        if paths or kind not in _IN_WORDS
    ]
    echo(f"files: {', '.join(words)}{' (dry run: nothing was done)' if report.dry_run else ''}")
    if not report.dry_run:
        echo(
            f"nodes: {report.nodes_written} written ({report.nodes_embedded} embedded, "
            f"{report.nodes_reused} reused), {report.nodes_deleted} deleted; "
            f"{report.rows} in the collection",
            f"time: {report.seconds['total']:.1f} s, {report.nodes_per_second:.0f} nodes/s",
        )


@click.group(
    "documents",
    cls=RagAppGroup,
    invoke_without_command=True,
    epilog="\b\nExamples:\n  rag-app documents\n  rag-app documents show index-types.md",
)
@common_options
@click.pass_context
def documents_group(context: click.Context) -> None:
    """List, show and remove the documents of the collection; alone, it lists."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@documents_group.command(
    "list",
    epilog="\b\nExamples:\n"
    "  rag-app documents list\n"
    '  rag-app documents list "guide/*.md"\n'
    "  rag-app documents list --json | jq length",
)
@click.argument("pattern", required=False, default="", metavar="[GLOB]")
@common_options
def list_command(pattern: str) -> None:
    """List the documents that are in the collection, or those whose path is like GLOB.

    Of documents whose paths are the same in two folders the absolute paths are printed.
    """
    config = load()
    from rag_app.milvus.stored_documents import list_documents, names_of

    documents = list_documents(config, pattern)
    names = names_of(documents)
    if wants_json():
        print_json([document.to_dict() for document in documents])
        return
    width = max(map(len, names.values()), default=0)
    for document in documents:
        echo(
            f"{names[document.id]:<{width}}  {document.type:<8}  {document.nodes:>5} nodes  "
            f"{document.title}"
        )
    say(f"{len(documents)} documents, {sum(document.nodes for document in documents)} nodes")


@documents_group.command("show", epilog="\b\nExamples:\n  rag-app documents show index-types.md")
@click.argument("path")
@common_options
def show_command(path: str) -> None:
    """Print the nodes of the document PATH, in document order, with their pages and headings.

    PATH is relative, as listed; absolute, where two folders have the same one; or an id.
    """
    config = load()
    from rag_app.milvus.stored_documents import show_document

    document = show_document(config, path)
    if wants_json():
        print_json(document)
        return
    nodes = document.pop("node_texts")
    for key, value in document.items():
        echo(f"{key}: {value}")
    for number, node in enumerate(nodes, start=1):
        page = f", page {node['page']}" if node["page"] else ""
        headings = f", {node['headings']}" if node["headings"] else ""
        echo("", f"--- node {number} of {len(nodes)}{page}{headings}, {node['id']}", dim=True)
        echo_text(node["text"])


@documents_group.command(
    "rm",
    epilog="\b\nExamples:\n"
    "  rag-app documents rm drafts/idea.md\n"
    '  rag-app documents rm "drafts/*" --dry-run',
)
@click.argument("patterns", nargs=-1, required=True, metavar="PATH...")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@common_options
def rm_command(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Remove documents from the collection by path, id or glob; their files are not touched.

    A path that documents of two folders have is refused; the absolute one says which is meant.
    """
    config = load()
    from rag_app.milvus.stored_documents import names_of, remove_documents

    removed = remove_documents(config, patterns, dry_run=dry_run)
    if wants_json():
        print_json([document.to_dict() for document in removed])
        return
    names = names_of(removed)
    for document in removed:
        echo(f"{names[document.id]}  {document.nodes} nodes")
    say(f"{len(removed)} documents {'would be ' if dry_run else ''}removed")


@click.command("verify", epilog="\b\nExamples:\n  rag-app verify\n  rag-app verify --repair --json")
@click.option("--repair", is_flag=True, help="Mend what was found.")
@common_options
def verify_command(repair: bool) -> None:
    """Check every row of the collection; exit 1 if something is wrong and was not mended.

    Finds incomplete, outdated, duplicate and orphaned documents, rows that were lost, e.g. with a
    disk error, and an index that finds less than an exact search.
    """
    config = load()
    from rag_app.ingestion.verify import verify

    report = verify(config, repair=repair)
    if wants_json():
        print_json(report.to_dict())
    else:
        for problem in report.problems:
            mended = " (repaired)" if problem.repaired else ""
            echo(f"{problem.kind:<10} {problem.path}: {problem.detail}{mended}")
        echo(f"{report.documents} documents, {report.rows} rows, {len(report.problems)} problems")
        if report.foreign_rows:
            say(f"{report.foreign_rows} rows are of another application, and are left alone")
        if report.index_recall is not None:
            say(f"the index finds {report.index_recall:.3f} of what an exact search finds")
        if not report.ok and not repair:
            say("mend them with rag-app verify --repair")
    if not report.ok:
        click.get_current_context().exit(1)
