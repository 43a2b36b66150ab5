"""Write docs/cli.md and docs/configuration.md from the code; ``--check`` only compares.

python scripts/generate_reference.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rag_app.cli import main
from rag_app.config.loader import config_rows
from rag_app.config.sections import Config

DOCS = Path(__file__).parent.parent / "docs"


_CONFIGURATION_HEAD = """# Configuration

Made by `scripts/generate_reference.py` from the code: every key of `config.toml`, its default, and
what it does.

A value comes from the command line (`--set llm.temperature=0`), else the environment
(`RAG_APP_LLM__TEMPERATURE=0`), else the profile that is on, else the file's plain sections, else
the default. `rag-app config show` says which. The profiles `offline`, `cpu`, `gpu` and `blog` are
always there; `[profiles.NAME.section]` in your own file adds one, or replaces one.

The file is the one that `--config` or `RAG_APP_CONFIG` names, else the nearest `config.toml` in the
current folder or above (as git looks for its folder), else the one that comes with rag_app. A
relative path in it is seen from its own folder, wherever the command is run; one in an environment
variable or on the command line from the current folder. Without a file of yours data lies in the
folder for applications' data (`~/.local/share/rag_app` on Linux). `rag-app config show` names the
file in its first line, and the first ingest says where the database is."""


def cli_page() -> str:
    """Render every command's help."""
    sections = "\n\n".join(
        f"## {name}\n\n```\n{text}\n```" for name, text in _helps(main, "rag-app")
    )
    return (
        f"# Command line\n\nMade by `scripts/generate_reference.py` from the code.\n\n{sections}\n"
    )


def _helps(
    command: click.Command, name: str, above: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name, parent=above, max_content_width=100)
    path = context.command_path
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found:
                yield from _helps(found, inner, context)


def configuration_page() -> str:
    """Render every key with its default and its sentence."""
    lines = [_CONFIGURATION_HEAD]
    section = None
    for row in config_rows(Config()):
        name, _, key = row["key"].rpartition(".")
        if name != section and name:
            lines += ["", f"## [{name}]", "", "| key | default | meaning |", "|---|---|---|"]
            section = name
        if name:
            default = "unset" if row["value"] is None else f"`{row['value']!r}`".replace("'", '"')
            lines.append(f"| `{key}` | {default} | {row['help']} |")
    return "\n".join(lines) + "\n"


def run(check: bool) -> int:
    """Write the pages, or say which are not up to date."""
    stale = []
    for name, page in (("cli.md", cli_page()), ("configuration.md", configuration_page())):
        file = DOCS / name
        if not file.is_file() or file.read_text(encoding="utf-8") != page:
            stale.append(name)
            if not check:
                file.write_text(page, encoding="utf-8")
    if check and stale:
        click.echo(
            f"not up to date: {', '.join(stale)}; run scripts/generate_reference.py", err=True
        )
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(run(check="--check" in sys.argv[1:]))
