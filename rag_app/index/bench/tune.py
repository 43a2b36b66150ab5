"""``rag-app index tune``: the cheapest measured index that finds enough, written to config.toml."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from rag_app.config.loader import COMMAND_LINE
from rag_app.config.paths import find_config, shipped_config
from rag_app.config.sections import Config
from rag_app.errors import ConfigError, InputError
from rag_app.index.schema import IndexBenchmark, IndexMeasurement

NEAR = 1.05
"""Latencies within 5% of the lowest are taken for equal; clocks are not better than that."""

_WRITTEN = ("type", "params", "search_params")


def choose(benchmark: IndexBenchmark, recall: float) -> IndexMeasurement:
    """Return the measurement with the lowest median latency among those that reach a recall.

    Among latencies that are as good as equal it is the smallest index, then the one that was built
    fastest.

    Raises
    ------
    InputError
        If none reaches it.
    """
    able = [found for found in benchmark.measurements if found.recall >= recall]
    if not able:
        best = max(benchmark.measurements, key=lambda found: found.recall)
        raise InputError(
            f"no index that was measured reaches a recall of {recall}; the best was {best.type} "
            f"with {best.recall:.3f}",
            "ask for less, or measure more types: FLAT is exact",
        )
    fastest = min(found.p50_ms for found in able)
    near = [found for found in able if found.p50_ms <= fastest * NEAR]
    # A server tells no sizes: there the next ones decide.
    return min(near, key=lambda found: (found.size or 0, found.build_seconds, found.p50_ms))


def write_choice(
    config: Config,
    chosen: IndexMeasurement,
    check: Callable[[str, Path, str | None], None],
    path: str | Path | None = None,
) -> str:
    """Write a type with its parameters into the configuration file; comments stay.

    It goes into the profile that is on if that sets the index, else into ``[index]``. The file is
    replaced in one step.

    Parameters
    ----------
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
    file = check_can_write(config, path)
    values = {
        "type": chosen.type,
        "params": dict(chosen.params),
        "search_params": dict(chosen.search_params),
    }
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    where = _section(config, document)
    section = _table(document, where)
    for name, value in values.items():
        section[name] = _inline(value) if isinstance(value, Mapping) else value
    text = tomlkit.dumps(document)
    check(text, file, config.profile or None)  # what is written must be readable
    _replace(file, text)
    said = ", ".join(f"{name} = {section[name].as_string()}" for name in _WRITTEN)
    return f"wrote to [{'.'.join(where)}] of {file}: {said}"


def check_can_write(config: Config, path: str | Path | None = None) -> Path:
    """Return the file that `write_choice` would write into.

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
    for name in _WRITTEN:
        origin = config.origin(f"index.{name}")
        if origin.startswith(("environment", COMMAND_LINE)):
            raise ConfigError(
                f"index.{name} is set by the {origin}, which would override the file",
                "run it again without that",
            )
    _section(config, tomlkit.parse(file.read_text(encoding="utf-8")))  # for what it refuses
    return file


def _section(config: Config, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which table of the file decides the index."""
    origins = [config.origin(f"index.{name}") for name in _WRITTEN]
    if not any(origin.startswith("profile") for origin in origins):
        return ("index",)
    if config.profile not in document.get("profiles", {}):
        raise ConfigError(
            f"the index is set by the profile {config.profile}, which is not in the file: it comes "
            "with rag_app",
            "copy that profile into the file, or choose one that leaves the index alone",
        )
    return ("profiles", config.profile, "index")


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
