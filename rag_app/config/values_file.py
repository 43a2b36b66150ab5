"""Values written into the user's configuration file; comments and all else in it stay."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from rag_app.config.loader import COMMAND_LINE
from rag_app.config.paths import find_config, shipped_config
from rag_app.config.sections import Config
from rag_app.errors import ConfigError


def write_values(
    config: Config,
    values: Mapping[str, Any],
    check: Callable[[str, Path, str | None], None],
    path: str | Path | None = None,
) -> str:
    """Write values of one section into the configuration file.

    They go into the profile that is on if that sets one of them, else into the plain section. The
    file is replaced in one step.

    Parameters
    ----------
    values
        By dotted key, all of one section.
    check
        Refuses a text that could not be loaded again: `rag_app.load.check_file_text`.
    path
        Of the configuration file, as `load_config` was given it.

    Returns
    -------
    str
        What was written, and where.

    Raises
    ------
    ConfigError
        If the file cannot be written, or something overrides what would be written in it.
    """
    file = check_can_write(config, list(values), path)
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    where = _place(config, list(values), document)
    section = _table(document, where)
    names = [key.partition(".")[2] for key in values]
    for name, value in zip(names, values.values(), strict=True):
        section[name] = _inline(value) if isinstance(value, Mapping) else value
    text = tomlkit.dumps(document)
    check(text, file, config.profile or None)  # what is written must be readable
    _replace(file, text)
    said = ", ".join(f"{name} = {section[name].as_string()}" for name in names)
    return f"wrote to [{'.'.join(where)}] of {file}: {said}"


def check_can_write(config: Config, keys: Sequence[str], path: str | Path | None = None) -> Path:
    """Return the file that `write_values` would write into.

    Raises
    ------
    ConfigError
        If there is none, or something overrides what would be written in it.
    """
    found = find_config(path)
    file = found.path
    if found.is_packaged:
        raise ConfigError(
            "there is no configuration file of yours to write into",
            f"copy the one that comes with rag_app: cp {shipped_config()} {found.base}",
        )
    for key in keys:
        origin = config.origin(key)
        if origin.startswith(("environment", COMMAND_LINE)):
            raise ConfigError(
                f"{key} is set by the {origin}, which would override the file",
                "run it again without that",
            )
    # For what it refuses.
    _place(config, keys, tomlkit.parse(file.read_text(encoding="utf-8")))
    return file


def _place(config: Config, keys: Sequence[str], document: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which table of the file decides these keys."""
    section = keys[0].partition(".")[0]
    if not any(config.origin(key).startswith("profile") for key in keys):
        return (section,)
    if config.profile not in document.get("profiles", {}):
        raise ConfigError(
            f"[{section}] is set by the profile {config.profile}, which is not in the file: it "
            "comes with rag_app",
            f"copy that profile into the file, or choose one that leaves [{section}] alone",
        )
    return ("profiles", config.profile, section)


def _table(document: tomlkit.TOMLDocument, where: tuple[str, ...]) -> Table:
    table: Any = document
    for name in where:
        if name not in table:
            table[name] = tomlkit.table()
        table = table[name]
    return table  # type: ignore[no-any-return]


def _inline(values: Mapping[str, Any]) -> Any:
    table = tomlkit.inline_table()
    table.update(values)
    return table


def _replace(file: Path, text: str) -> None:
    """Write a file so that a killed process leaves the old one or the new one."""
    try:
        # Beside it: from another file system it could not be put in place in one step.
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as new:
                new.write(text)
                new.flush()
                os.fsync(new.fileno())
            Path(name).chmod(file.stat().st_mode)  # `mkstemp` makes it its owner's alone
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", "make it and its folder writable"
        ) from None
