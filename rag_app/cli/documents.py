"""``rag-app ingest`` and ``rag-app documents``: what goes into the collection, what is in it."""

from typing import TYPE_CHECKING

import click

from rag_app.cli.common import common_options, load, print_json, progress_bar, say, wants_json

if TYPE_CHECKING:
    from rag_app.schema import IngestReport


@click.command(
    "ingest",
    epilog="\b\nExamples:\n"
    "  rag-app ingest docs/\n"
    '  rag-app ingest report.pdf "notes/**/*.md"\n'
    "  rag-app --profile gpu ingest docs/ --json",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@common_options
def ingest_command(paths: tuple[str, ...]) -> None:
    """Read folders, files and globs into the collection.

    Files that did not change since the last time are left alone. A file that cannot be read is
    skipped, and the report says why.
    """
    config = load()
    from rag_app.ingestion import ingest  # LlamaIndex, Milvus: 3 s

    with progress_bar("ingesting") as progress:
        report = ingest(config, paths, progress=progress)
    if wants_json():
        print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: "IngestReport") -> None:
    for note in report.notes:
        say(note)
    for skipped in report.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    files = ", ".join(
        f"{len(paths)} {kind}"
        for kind, paths in (
            ("new", report.new),
            ("changed", report.changed),
            ("unchanged", report.unchanged),
            ("skipped", report.skipped),
        )
    )
    rate = report.nodes_embedded / report.seconds["embed"] if report.seconds.get("embed") else 0.0
    click.echo(
        f"files: {files}\n"
        f"nodes: {report.nodes_written} written ({report.nodes_embedded} embedded, "
        f"{rate:.0f}/s), {report.nodes_deleted} deleted; {report.rows} in the collection\n"
        f"time: {report.seconds['total']:.1f} s"
    )


@click.command(
    "documents", epilog="\b\nExamples:\n  rag-app documents\n  rag-app documents --json | jq length"
)
@common_options
def documents_command() -> None:
    """List the documents that are in the collection."""
    config = load()
    from rag_app.ingestion import list_documents

    documents = list_documents(config)
    if wants_json():
        print_json([document.to_dict() for document in documents])
        return
    width = max((len(document.path) for document in documents), default=0)
    for document in documents:
        click.echo(
            f"{document.path:<{width}}  {document.type:<8}  {document.nodes:>5} nodes  "
            f"{document.title}"
        )
    say(f"{len(documents)} documents, {sum(document.nodes for document in documents)} nodes")
