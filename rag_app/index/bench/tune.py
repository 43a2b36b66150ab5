"""``rag-app index tune``: the cheapest measured index that finds enough, written to config.toml."""

from collections.abc import Callable
from pathlib import Path

from rag_app.config import values_file
from rag_app.config.sections import Config
from rag_app.config.values_file import write_values
from rag_app.errors import InputError
from rag_app.index.schema import IndexBenchmark, IndexMeasurement

NEAR = 1.05
"""Latencies within 5% of the lowest are taken for equal; clocks are not better than that."""

_WRITTEN = ("index.type", "index.params", "index.search_params")


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
    values = {
        "index.type": chosen.type,
        "index.params": dict(chosen.params),
        "index.search_params": dict(chosen.search_params),
    }
    return write_values(config, values, check, path)


def check_can_write(config: Config, path: str | Path | None = None) -> None:
    """Check that `write_choice` could write. Raises as that."""
    values_file.check_can_write(config, _WRITTEN, path)
