"""``rag-app mcp``: the documents for agents of this machine."""

from pathlib import Path

import click

from rag_app.cli.common import RagAppGroup, common_options, load, quick_start
from rag_app.errors import InputError
from rag_app.install import pip_install


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
@click.option(
    "--write", is_flag=True, help="Also offer a tool that ingests files; else nothing is changed."
)
@click.option(
    "--folder",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --write: ingest below DIR, too, not only below folders that were ingested before.",
)
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
    if folders and not write:
        raise InputError("--folder is for what --write ingests", "add --write, or leave it out")
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
