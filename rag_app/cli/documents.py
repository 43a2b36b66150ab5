"""``rag-app ingest``, ``watch``, ``documents`` and ``verify``: what goes in, what is in there."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

import click

from rag_app.cli.common import (
    INTERRUPTED,
    RagAppGroup,
    common_options,
    echo,
    echo_text,
    load,
    print_json,
    progress_bar,
    say,
    wants_json,
)

if TYPE_CHECKING:
    from rag_app.schema import IngestReport


@click.command(
    "ingest",
    epilog="\b\nExamples:\n"
    "  rag-app ingest docs/\n"
    "  rag-app ingest docs/ --prune --dry-run\n"
    '  rag-app ingest report.pdf "notes/**/*.md"\n'
    "  rag-app --profile gpu ingest docs/ --json",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--prune", is_flag=True, help="Delete documents whose file is gone from PATH.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@common_options
def ingest_command(paths: tuple[str, ...], prune: bool, dry_run: bool) -> None:
    """Make the collection equal to folders, files and globs.

    Only what differs is done: files that did not change are left alone, of a changed file only the
    nodes with new text are embedded. What is not under PATH is never touched. A file that cannot be
    read is skipped, and the report says why. Ctrl-C finishes what is under way.
    """
    config = load()
    from rag_app.ingestion.run import ingest  # LlamaIndex, Milvus: 3 s

    with _stop_on_interrupt() as stop, progress_bar("ingesting") as progress:
        report = ingest(config, paths, prune=prune, dry_run=dry_run, progress=progress, stop=stop)
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

    with _stop_on_interrupt() as stop:
        for report in watch(config, paths, prune=prune, stop=stop, say=say):
            if wants_json():
                print_json(report.to_dict())
            else:
                _print_report(report)


@contextmanager
def _stop_on_interrupt() -> Iterator[Event]:
    """Turn the first Ctrl-C into a wish to stop; a second one interrupts at once."""
    stop = Event()

    def wish(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("", "stopping after what is under way; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, wish)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _print_report(report: "IngestReport") -> None:
    for note in report.notes:
        say(note)
    for skipped in report.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    kinds = {
        "new": report.new,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "skipped": report.skipped,
    }
    if report.dry_run:
        for kind in ("new", "changed", "removed"):
            for path in kinds[kind]:
                echo(f"{kind:<8} {path}")
    files = ", ".join(f"{len(paths)} {kind}" for kind, paths in kinds.items())
    echo(f"files: {files}{' (dry run: nothing was done)' if report.dry_run else ''}")
    if report.removed and not report.pruned and not report.dry_run:
        say("documents whose file is gone stay until rag-app ingest --prune")
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
    epilog="\b\nExamples:\n  rag-app documents list\n  rag-app documents list --json | jq length",
)
@common_options
def list_command() -> None:
    """List the documents that are in the collection."""
    config = load()
    from rag_app.milvus.stored_documents import list_documents

    documents = list_documents(config)
    if wants_json():
        print_json([document.to_dict() for document in documents])
        return
    width = max((len(document.path) for document in documents), default=0)
    for document in documents:
        echo(
            f"{document.path:<{width}}  {document.type:<8}  {document.nodes:>5} nodes  "
            f"{document.title}"
        )
    say(f"{len(documents)} documents, {sum(document.nodes for document in documents)} nodes")


@documents_group.command("show", epilog="\b\nExamples:\n  rag-app documents show index-types.md")
@click.argument("path")
@common_options
def show_command(path: str) -> None:
    """Print the nodes of the document PATH (relative, as listed), in document order."""
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
        echo("", f"--- node {number} of {len(nodes)}, {node['id']}", dim=True)
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
    """Remove documents from the collection by path, id or glob; their files are not touched."""
    config = load()
    from rag_app.milvus.stored_documents import remove_documents

    removed = remove_documents(config, patterns, dry_run=dry_run)
    if wants_json():
        print_json([document.to_dict() for document in removed])
        return
    for document in removed:
        echo(f"{document.path}  {document.nodes} nodes")
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
