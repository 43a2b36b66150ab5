"""``rag-app collections``: what is in the configured Milvus, and whose it is."""

import sys
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import RagAppGroup, common_options, echo, load, print_json, say, wants_json
from rag_app.errors import InputError

if TYPE_CHECKING:
    from rag_app.milvus.admin import CollectionInfo

_FOREIGN = click.option(
    "--foreign", is_flag=True, help="Do it to a collection that another program made as well."
)


@click.group(
    "collections",
    cls=RagAppGroup,
    invoke_without_command=True,
    epilog="\b\nExamples:\n"
    "  rag-app collections\n"
    "  rag-app collections show rag_app\n"
    "  rag-app --collection small --set chunking.size=128 ingest docs/",
)
@common_options
@click.pass_context
def collections_group(context: click.Context) -> None:
    """List, show, drop and rename the collections in Milvus; alone, it lists."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@collections_group.command(
    "list",
    epilog="\b\nExamples:\n  rag-app collections list\n  rag-app collections list --json",
)
@common_options
def list_command() -> None:
    """List every collection: its rows, and what made it. "*" marks the configured one."""
    config = load()
    from rag_app.milvus.admin import list_collections

    found = list_collections(config)
    if wants_json():
        print_json([info.to_dict() for info in found])
        return
    width = max((len(info.name) for info in found), default=0)
    for info in found:
        mark = "*" if info.configured else " "
        what = f"{info.rows:>7} rows  {_made_by(info)}"
        if info.damage:
            what = f"damaged: {info.damage}"
        if info.aliases:
            what += f"; its name is {', '.join(info.aliases)}"
        echo(f"{mark} {info.name:<{width}}  {what}")
    say(f"{len(found)} collections in {config.vector_store.uri}")
    configured = config.vector_store.collection
    if not any(info.configured for info in found):
        say(f"the configured one, {configured}, is not there yet: rag-app ingest docs/")


@collections_group.command(
    "show",
    epilog="\b\nExamples:\n  rag-app collections show\n  rag-app collections show small --json",
)
@click.argument("name", required=False)
@common_options
def show_command(name: str | None) -> None:
    """Print all about the collection NAME, by default the configured one."""
    config = load()
    from rag_app.milvus.admin import show_collection

    details = show_collection(config, name or config.vector_store.collection)
    if wants_json():
        print_json(details.to_dict())
        return
    echo(f"{details.name}: {details.rows} rows")
    echo(f"made by: {_made_by(details)}")
    for key, value in details.made_by.items():
        echo(f"  {key} = {value!r}")
    echo(f"index: {_index(details.index)}")
    echo(f"aliases: {', '.join(details.aliases) or 'none'}")
    echo("fields:")
    for key, value in details.fields.items():
        echo(f"  {key}: {value}")
    if details.mismatch:
        can = "can search it only" if details.searchable else "cannot use it"
        echo(f"this configuration {can}: {details.mismatch}")
        echo(f"  try: {details.remedy}")
    else:
        echo("this configuration can use it")


@collections_group.command(
    "drop",
    epilog="\b\nExamples:\n"
    "  rag-app collections drop small\n"
    "  rag-app collections drop small --yes --json",
)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@_FOREIGN
@common_options
def drop_command(name: str, yes: bool, foreign: bool) -> None:
    """Delete the collection NAME with all its rows; the documents' files are not touched."""
    config = load()
    from rag_app.milvus.admin import drop_collection, find_collection

    # Before the question: nobody is asked to confirm what is refused anyway.
    info = find_collection(config, name, foreign=foreign)
    if not yes:
        if not _is_terminal():
            raise InputError(
                f"dropping {name!r} ({info.rows} rows) wants to be confirmed, and there is no "
                "terminal",
                f"rag-app collections drop {name} --yes",
            )
        asked = f"Drop {name} in {config.vector_store.uri} ({info.rows} rows, {_made_by(info)})?"
        # On standard error: standard output is the result, which a program may read.
        if not click.confirm(asked, err=True):
            say("nothing was done")
            click.get_current_context().exit(1)
    dropped = drop_collection(config, name, foreign=foreign)
    if wants_json():
        print_json(dropped.to_dict())
    else:
        echo(f"dropped {name}, {dropped.rows} rows")


@collections_group.command(
    "rename", epilog="\b\nExamples:\n  rag-app collections rename rag_app manual"
)
@click.argument("name")
@click.argument("to")
@_FOREIGN
@common_options
def rename_command(name: str, to: str, foreign: bool) -> None:
    """Rename the collection NAME to TO; nothing is written again."""
    config = load()
    from rag_app.milvus.admin import rename_collection

    rename_collection(config, name, to, foreign=foreign)
    if wants_json():
        print_json({"name": to, "was": name})
    else:
        echo(f"renamed {name} to {to}")
    if name == config.vector_store.collection:
        say(f'the configuration still says {name}; set vector_store.collection = "{to}"')


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _made_by(info: "CollectionInfo") -> str:
    made = info.made_by
    if not made:
        return "another program"
    language = "each text's language" if made["language"] == "auto" else made["language"]
    what = "{model}, nodes of {size} {unit}, overlap {overlap}".format(**made)
    what += f", words in {language}"
    if not info.mismatch:
        return what
    return f"{what} ({'to be searched only' if info.searchable else 'of another configuration'})"


def _index(index: dict[str, Any]) -> str:
    if not index:
        return "unknown"
    params = ", ".join(f"{name}={value}" for name, value in index["params"].items())
    text = f"{index['type']}({params}), {index['metric']}"
    if chosen := index.get("chosen"):
        values = {**chosen["params"], **chosen["search_params"]}
        named = ", ".join(f"{name}={value}" for name, value in values.items())
        text += f"; chosen for {chosen['rows']:,} rows: {named}"
    return text
