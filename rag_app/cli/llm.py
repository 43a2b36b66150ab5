"""``rag-app llm``: the language model, served to others."""

import click

from rag_app.cli.common import RagAppGroup, common_options, echo, load, say


@click.group(
    "llm",
    cls=RagAppGroup,
    epilog="\b\nExamples:\n  rag-app --profile gpu llm serve --dry-run",
)
@common_options
def llm_group() -> None:
    """Serve the configured language model."""


@llm_group.command(
    "serve",
    epilog="\b\nExamples:\n"
    "  rag-app --profile gpu llm serve\n"
    "  rag-app --profile gpu llm serve --dry-run\n"
    "  RAG_APP_LLM__API_KEY=secret rag-app --profile gpu llm serve --host 0.0.0.0",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but the default lets other machines in.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port; default: the one of llm.base_url."
)
@click.option("--dry-run", is_flag=True, help="Print the command and do not run it.")
@common_options
def serve_command(host: str, port: int | None, dry_run: bool) -> None:
    """Run a vLLM server of llm.model with the arguments of llm.engine, until Ctrl-C.

    The key that clients must send is llm.api_key. Ask it with llm.backend = "vllm-server".
    """
    config = load()
    from rag_app.llms.serve import LOOPBACK, server_command  # vLLM's argument list: 10 s

    command = server_command(config.llm, host, port)
    if dry_run:
        # As text its secrets are masked.
        echo(str(command))
        return
    say(str(command))
    if host != LOOPBACK and not config.llm.api_key.get_secret_value():
        say(f"warning: {host} is open to other machines, and no llm.api_key is set")
    command.run()
