"""``rag-app serve`` and ``rag-app keys``: the server, and who may ask it."""

import time
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import RagAppGroup, common_options, echo, load, print_json, say, wants_json
from rag_app.errors import InputError
from rag_app.install import pip_install

if TYPE_CHECKING:
    from rag_app.server.keys import KeyFile

# As in `rag_app.server.keys`, which the help of all commands would import.
_ROLES = ("reader", "writer", "admin")


@click.command(
    "serve",
    epilog="\b\nExamples:\n"
    "  rag-app serve\n"
    "  rag-app --profile gpu serve --port 9000\n"
    "  rag-app keys add alice && rag-app serve --host 0.0.0.0",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; default: server.host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port, 0 for a free one; default: server.port."
)
@common_options
def serve_command(host: str | None, port: int | None) -> None:
    """Serve questions, searches and documents over HTTP, in OpenAI's shapes, until Ctrl-C.

    Each collection is a model. Without a key (rag-app keys add) only this machine may ask.
    """
    more: dict[str, Any] = {}
    if host is not None:
        more["server.host"] = host
    # 0 is a port as well: any that is free.
    if port is not None:
        more["server.port"] = port
    config = load(more)
    try:
        from rag_app.server.run import serve  # FastAPI, LlamaIndex, torch, Milvus: 8 s
    except ModuleNotFoundError as error:
        raise InputError(
            f"the server needs the package {error.name}, which is not installed",
            pip_install("server"),
        ) from None
    serve(config, say)


@click.group(
    "keys",
    cls=RagAppGroup,
    epilog="\b\nExamples:\n"
    "  rag-app keys add alice --role reader --collections rag_app\n"
    """  rag-app keys add team --filter 'path contains "team/"' --rate 60/min\n"""
    "  rag-app keys list\n"
    "  rag-app keys revoke alice",
)
@common_options
def keys_group() -> None:
    """Say who may ask the server: make, list and revoke keys."""


@keys_group.command(
    "add",
    epilog="\b\nExamples:\n"
    "  rag-app keys add alice\n"
    """  rag-app keys add team --collections manual --filter 'type = "pdf"' --rate 60/min""",
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="reader",
    show_default=True,
    help="reader: ask and search; writer: also upload and remove; admin: also metrics.",
)
@click.option(
    "--collections", metavar="A,B", default="", help="Only these collections; default: all."
)
@click.option(
    "--filter",
    "filter_",
    metavar="FILTER",
    default="",
    help="Joined to every search that the key makes, on the server.",
)
@click.option("--rate", metavar="N/min", default="", help="Requests by s, min or h; default: any.")
@common_options
def add_command(name: str, role: str, collections: str, filter_: str, rate: str) -> None:
    """Make a key called NAME and print it, once: only its hash is kept."""
    wanted = [part.strip() for part in collections.split(",") if part.strip()]
    key = _keys().add(name, role, wanted, filter_, rate)
    if wants_json():
        print_json({"name": name, "key": key})
        return
    # Alone on standard output, for a script to take.
    echo(key)
    say("keep it: it cannot be shown again; clients send it as Authorization: Bearer KEY")


@keys_group.command("list", epilog="\b\nExamples:\n  rag-app keys list --json")
@common_options
def list_command() -> None:
    """List the keys, without what would let someone in."""
    keys = _keys().all()
    if wants_json():
        shown = [key.to_dict() for key in keys]
        for each in shown:
            # Links to passages are signed with it: who has it can make
            # them (`rag_app.server.links`).
            del each["digest"]
        print_json(shown)
        return
    if not keys:
        say("there is no key: only this machine may ask")
    for key in keys:
        parts = [
            key.role,
            ", ".join(key.collections) or "all collections",
            *([f"where {key.filter}"] if key.filter else []),
            *([key.rate] if key.rate else []),
            f"made {time.strftime('%Y-%m-%d', time.localtime(key.made))}",
            *(["revoked"] if key.is_revoked else []),
        ]
        echo(f"{key.name}  {'; '.join(parts)}")


@keys_group.command("revoke", epilog="\b\nExamples:\n  rag-app keys revoke alice")
@click.argument("name")
@common_options
def revoke_command(name: str) -> None:
    """Make the key called NAME useless, from the next request on."""
    _keys().revoke(name)
    if wants_json():
        print_json({"name": name, "revoked": True})
    else:
        echo(f"revoked {name}")


def _keys() -> "KeyFile":
    from rag_app.server.keys import KeyFile

    return KeyFile(load().server.keys_file)
