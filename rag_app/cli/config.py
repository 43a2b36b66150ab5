"""``rag-app config``: what the configuration is, and where each value came from."""

import json

import click

from rag_app.cli.common import (
    about_config_file,
    common_options,
    echo,
    is_verbose,
    load,
    print_json,
    wants_json,
)


@click.group(
    "config",
    epilog="\b\nExamples:\n  rag-app config show\n  rag-app config show --json | jq length",
)
@common_options
def config_group() -> None:
    """Look at the configuration."""


@config_group.command(
    "show",
    epilog="\b\nExamples:\n  rag-app config show\n  rag-app --profile gpu config show -v",
)
@common_options
def show_command() -> None:
    """Print the configuration file, and every key with its value and where it came from.

    Secrets are masked; -v explains each key.
    """
    config = load()
    from rag_app.config.loader import config_rows

    rows = config_rows(config)
    if wants_json():
        print_json(rows)
        return
    echo(f"# {about_config_file()}", dim=True)
    section = ""
    for row in rows:
        name, _, key = row["key"].rpartition(".")
        if name != section:
            echo("", f"[{name}]", bold=True)
            section = name
        if is_verbose():
            echo(*click.wrap_text(row["help"], 96, "# ", "# ").split("\n"), dim=True)
        echo(f"{key} = {_as_toml(row['value'])}  ({row['origin']})")


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML escapes as JSON does
    return "unset" if value is None else str(value)
