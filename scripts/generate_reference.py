"""Write docs/cli.md, docs/configuration.md and the README's table of packages from the code.

``--check`` only compares.

python scripts/generate_reference.py
"""

import ast
import copy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

from rag_app.cli import main
from rag_app.cli.common import common_options
from rag_app.config.loader import config_rows
from rag_app.config.sections import Config

ROOT = Path(__file__).parent.parent
_BEGINS = "<!-- packages, made by scripts/generate_reference.py -->\n"
_ENDS = "<!-- end of packages -->\n"


_CONFIGURATION_HEAD = """# Configuration

Made by `scripts/generate_reference.py` from the code: every key of `config.toml`, its default, and
what it does.

A value comes from the command line (`--set llm.temperature=0`), else the environment
(`RAG_APP_LLM__TEMPERATURE=0`), else the profile that is on, else the file's plain sections, else
the default. `rag-app config show` says which. The profiles `offline`, `cpu`, `gpu` and `blog` are
always there; `[profiles.NAME.section]` in your own file adds one, or replaces one.

The file is the one that `--config` or `RAG_APP_CONFIG` names, else the nearest `config.toml` in the
current folder or above (as git looks for its folder), else the one in the folder for applications'
data (`~/.local/share/rag_app` on Linux), else the one that comes with rag_app. A relative path in
it is seen from its own folder, wherever the command is run, and in the one that comes with rag_app
from the folder for applications' data; one in an environment variable or on the command line is
seen from the current folder. `rag-app config show` names the file in its first line, and the first
ingest says where the database is."""


_CLI_HEAD = """# Command line

Made by `scripts/generate_reference.py` from the code: what `--help` says of each command.

## Options of all commands

They may stand before or after a command, and are left out below."""


@click.command()
@common_options
def _any_command() -> None:
    """Stand for any command."""


_COMMON = {parameter.name for parameter in _any_command.params}


def cli_page() -> str:
    """Render every command's help, and the options that all of them have once."""
    sections = "\n\n".join(
        f"## {name}\n\n```\n{text}\n```" for name, text in _helps(main, "rag-app")
    )
    options = _help(_any_command, "rag-app COMMAND").partition("Options:\n")[2]
    return f"{_CLI_HEAD}\n\n```\n{options}\n```\n\n{sections}\n"


def _help(command: click.Command, name: str, above: click.Context | None = None) -> str:
    return command.get_help(
        click.Context(command, info_name=name, parent=above, max_content_width=100)
    )


def _helps(
    command: click.Command, name: str, above: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    own = copy.copy(command)
    own.params = [parameter for parameter in command.params if parameter.name not in _COMMON]
    context = click.Context(command, info_name=name, parent=above)
    yield context.command_path, _help(own, name, above)
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


def readme() -> str:
    """Put the table of packages into the README: each one's own first sentence, by layers."""
    before, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(_BEGINS)
    _, _, after = rest.partition(_ENDS)
    lines = ["| package | what it is |", "|---|---|"]
    for name in layers(ROOT / "pyproject.toml"):
        folder = ROOT / "rag_app" / name
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        shown = f"{name}/" if folder.is_dir() else f"{name}.py"
        lines.append(f"| `{shown}` | {docstring.splitlines()[0]} |")
    return before + _BEGINS + "\n".join(lines) + "\n" + _ENDS + after


def layers(pyproject: Path) -> Iterator[str]:
    """Yield the packages and modules of rag_app, each after those that may import it."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]
    for layer in contracts["contracts"][0]["layers"]:
        yield from (name.strip() for name in layer.split("|"))


def run(check: bool) -> int:
    """Write the pages, or say which are not up to date."""
    stale = []
    pages = (
        ("docs/cli.md", cli_page()),
        ("docs/configuration.md", configuration_page()),
        ("README.md", readme()),
    )
    for name, page in pages:
        file = ROOT / name
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
