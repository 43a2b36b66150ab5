"""``rag-app mcp``: the documents for agents of this machine."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rag_app.cli.common import (
    RagAppGroup,
    common_options,
    echo_text,
    given_options,
    load,
    print_json,
    quick_start,
    say,
    wants_json,
)
from rag_app.errors import InputError
from rag_app.install import pip_install

# As in `rag_app.server.mcp.clients`, which the help of all commands would import.
_CLIENTS = ("claude", "cursor", "vscode")


def _writing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--folder",
            "folders",
            metavar="DIR",
            multiple=True,
            type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
            help="With --write: also below DIR, not only below folders that were ingested before.",
        ),
        click.option(
            "--write",
            is_flag=True,
            help="Also offer a tool that ingests files; else nothing is changed.",
        ),
    ):
        command = option(command)
    return command


@click.group(
    "mcp",
    cls=RagAppGroup,
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  rag-app mcp install claude\n"
    "  rag-app mcp --collection manual\n"
    "  rag-app mcp --write --folder ~/notes\n"
    "  npx @modelcontextprotocol/inspector --cli rag-app mcp --method tools/list",
)
@_writing_options
@common_options
@click.pass_context
def mcp_group(context: click.Context, write: bool, folders: tuple[Path, ...]) -> None:
    """Serve the documents to an agent by the Model Context Protocol, on standard input and output.

    The agent's program starts this command by itself: rag-app mcp install tells it to. Tools:
    search, fetch, answer, list_collections, list_documents. For other machines there is /mcp of
    rag-app serve, with keys.
    """
    if context.invoked_subcommand is not None:
        return
    _check(write, folders)
    config = load()
    try:
        # Clients wait two seconds for the end, of which Python alone would take more.
        with quick_start():
            from rag_app.server.mcp.stdio import serve_stdio  # FastAPI, LlamaIndex, Milvus: 3 s
    except ModuleNotFoundError as error:
        raise InputError(
            f"this needs the package {error.name}, which is not installed", pip_install("mcp")
        ) from None
    serve_stdio(config, write=write, folders=folders)


@mcp_group.command(
    "install",
    epilog="\b\nExamples:\n"
    "  rag-app mcp install claude\n"
    "  rag-app mcp install vscode --collection manual --name manual --yes\n"
    "  rag-app mcp install cursor --print",
)
@click.argument("client", type=click.Choice(_CLIENTS))
@click.option(
    "--name", default="rag_app", show_default=True, help="What the program calls the server."
)
@_writing_options
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@click.option(
    "--print", "only_print", is_flag=True, help="Print what the file would become, and write none."
)
@common_options
def install_command(
    client: str, name: str, write: bool, folders: tuple[Path, ...], yes: bool, only_print: bool
) -> None:
    """Let CLIENT start rag-app mcp: shows the change to its file, asks, and keeps a copy.

    The entry names this Python, the configuration file, and the options that are given here.
    """
    _check(write, folders)
    config = load()
    from rag_app.server.mcp.clients import plan_change

    asked = [*(["--write"] if write else [])]
    for folder in folders:
        asked += ["--folder", str(folder)]
    change = plan_change(client, name, [*given_options(config), "mcp", *asked])
    if only_print:
        print_json(change.entry) if wants_json() else echo_text(change.new, nl=False)
        return
    copy = ""
    if change.diff:
        if not wants_json():
            echo_text(change.diff)
        _confirm(client, change.file, yes=yes)
        copy = change.write()
    if wants_json():
        told = {"client": client, "file": change.file, "entry": change.entry}
        print_json({**told, "changed": bool(change.diff), "copy": copy})
    elif change.diff:
        say(f"wrote {change.file}" + (f"; what was there is in {copy}" if copy else ""))
        say("restart the program, or reload its servers")
    else:
        say(f"{change.file} says so already: nothing to do")
    _warn_of_environment()


def _check(write: bool, folders: tuple[Path, ...]) -> None:
    if folders and not write:
        raise InputError("--folder is for what --write ingests", "add --write, or leave it out")


def _confirm(client: str, file: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            f"changing {file} wants to be confirmed, and there is no terminal",
            f"rag-app mcp install {client} --yes",
        )
    # On standard error: standard output is the result, which a program may read.
    if not click.confirm(f"Write this into {file}?", err=True):
        say("nothing was done")
        click.get_current_context().exit(1)


def _warn_of_environment() -> None:
    names = sorted(name for name in os.environ if name.startswith("RAG_APP_"))
    if names:
        say(
            f"not written, as they may be secrets: {', '.join(names)}; the program has its own "
            "environment"
        )
