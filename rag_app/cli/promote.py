"""``rag-app promote``: the collection to another Milvus, without embedding anything again."""

import os
from collections.abc import Iterable
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

_TOKEN = "RAG_APP_VECTOR_STORE__TOKEN"  # noqa: S105 - the name of a variable


@click.command(
    "promote",
    epilog="\b\nExamples:\n"
    "  rag-app promote --to http://milvus:19530\n"
    "  rag-app promote --to http://milvus:19530 --token-env MILVUS_TOKEN --write\n"
    "  rag-app promote --to storage/back.db",
)
@click.option(
    "--to",
    required=True,
    metavar="URI",
    help="A Milvus server, a shared Milvus Lite (http://…), or the path of a database (….db).",
)
@click.option("--token-env", metavar="NAME", help="Environment variable with the target's token.")
@click.option(
    "--write", is_flag=True, help="Once the copy is found equal, write its URI into config.toml."
)
@common_options
def promote_command(to: str, token_env: str | None, write: bool) -> None:
    """Copy the collection to another Milvus: from Lite to a server, back, or between servers.

    Rows go over with their vectors, words and metadata, into a new collection of the same name.
    Both are compared then: the count, each document's rows, and 100 searches. What was killed goes
    on when it is run again. The original stays.
    """
    config = load()
    from rag_app.ingestion.promote import changes_of, missing_there, promote, target_of

    target = target_of(config, to, _token(token_env))
    if write:
        _check_writable(config, ["vector_store.uri"])
    changes = changes_of(config, target)
    if write:
        _check_writable(config, changes)
    for line in missing_there(config, target):
        say(f"missing there: {line}")
    with progress_bar("copying documents") as update:
        report = promote(config, target, progress=update)
    wrote = _write(config, changes) if write else []
    if wants_json():
        print_json({**report.to_dict(), "wrote": wrote})
        return
    seconds = report.seconds
    echo(f"copied {report.collection!r} from {report.source} to {report.target}")
    echo(
        f"{report.documents} documents, {report.rows} rows: {report.written} written by this run "
        f"in {seconds['copy']:.1f} s, {report.deleted} deleted"
    )
    echo(
        f"compared: every document's rows, {report.samples} rows by text, metadata and vector; "
        f"{report.same_searches} of {report.samples} searches find the same, {report.overlap:.4f} "
        "of all rows"
    )
    for line in wrote:
        say(line)
    if not write:
        assignments = " and ".join(f'{key} = "{value}"' for key, value in changes.items())
        say(f"to use it, set {assignments}, or run it again with --write")
    if token_env and token_env != _TOKEN:
        say(f'the token is not written: export {_TOKEN}="${token_env}"')


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    if (token := os.environ.get(variable)) is None:
        raise InputError(
            f"there is no environment variable {variable}", f"export {variable}=user:password"
        )
    return token


def _check_writable(config: "Config", keys: Iterable[str]) -> None:
    """Refuse before anything is copied what could not be written afterwards."""
    from rag_app.config.values_file import check_can_write

    for key in keys:
        check_can_write(config, [key], config_path())


def _write(config: "Config", changes: dict[str, Any]) -> list[str]:
    from rag_app.config.values_file import write_values
    from rag_app.load import check_file_text

    # The place last: killed in between, the file is still right for the old one.
    return [
        write_values(config, {key: changes[key]}, check_file_text, config_path())
        for key in sorted(changes)
    ]
