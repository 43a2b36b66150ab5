"""A benchmark of indexes as a table to read and a picture to look at."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from rag_app.errors import ConfigError, InputError
from rag_app.index.schema import IndexBenchmark, IndexMeasurement
from rag_app.install import pip_install

_HEAD = (
    *("index", "search", "recall", "one: p50", "p95 ms", "100: p50", "p95 ms"),
    *("build s", "size MB"),
)


ENOUGH = 5_000
"""Vectors from which on types differ by more than the cost of a call (docs/index-types.md)."""


def table(benchmark: IndexBenchmark) -> str:
    """Return a Markdown table: a line for each measurement."""
    rows = [_HEAD, *(_cells(found) for found in benchmark.measurements)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["| " + " | ".join(map(_pad, row, widths, range(len(row)))) + " |" for row in rows]
    rules = ("-" * (width + 1) + ("-" if at < _TEXTS else ":") for at, width in enumerate(widths))
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < _TEXTS else cell.rjust(width)


def _cells(found: IndexMeasurement) -> tuple[str, ...]:
    built = _text(found.params)
    return (
        f"{found.type} {built}".strip(),
        _text(found.search_params),
        f"{found.recall:.3f}",
        *(f"{value:.1f}" for value in (found.p50_ms, found.p95_ms)),
        *(f"{value:.0f}" for value in (found.batch_p50_ms, found.batch_p95_ms)),
        f"{found.build_seconds:.1f}",
        "-" if found.size is None else f"{found.size / 1e6:.1f}",
    )


def _text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


_TEXTS = 2
"""Columns that are text; the others are numbers."""


def require_matplotlib() -> None:
    """Check that pictures can be drawn, before anything is measured.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a picture needs matplotlib, which is not installed",
            f"{pip_install('bench')}, or leave --picture out",
        )


def few_rows(benchmark: IndexBenchmark) -> str:
    """Say that so few vectors tell little; empty if there are enough."""
    if benchmark.rows >= ENOUGH:
        return ""
    return (
        f"{benchmark.rows:,} vectors are too few to tell index types apart: a search of any "
        f"costs about as much as the call; measure {ENOUGH:,} or more (--synthetic makes them up)"
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats in both, by rising milliseconds.

    Parameters
    ----------
    points
        Milliseconds and recall of each.
    """
    best: list[int] = []
    # Of those that are equally fast the best comes first, and beats the others.
    for at in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1])):
        if not best or points[at][1] > points[best[-1]][1]:
            best.append(at)
    return best


def picture(benchmark: IndexBenchmark, file: Path) -> None:
    """Draw recall against median latency as a PNG.

    Each index has a line through its measurements that none of its own beats in both, and pale dots
    for the others; those that none of any index beats are ringed.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import matplotlib as mpl  # 0.5 s

    mpl.use("Agg")  # into a file: there may be no display
    from matplotlib import pyplot as plt

    figure, (alone, batch) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    groups = groupby(benchmark.measurements, lambda m: (m.type, str(m.params)))
    for number, ((type_, _), group) in enumerate(groups):
        found = list(group)
        _draw(alone, [(one.p50_ms, one.recall) for one in found], type_, f"C{number}")
        _draw(batch, [(one.batch_p50_ms, one.recall) for one in found], type_, f"C{number}")
    _ring(alone, [(one.p50_ms, one.recall) for one in benchmark.measurements])
    _ring(batch, [(one.batch_p50_ms, one.recall) for one in benchmark.measurements])
    alone.set_ylabel(f"recall@{benchmark.top_k}")
    for axes, what in ((alone, "a search for one question"), (batch, "a search for 100")):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # as "20", not as a power of ten
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", labelsize=7)
        axes.set_xlabel(f"{what}: median ms")
        axes.grid(visible=True, alpha=0.3)
    batch.legend(fontsize=8)
    about = (
        f"{benchmark.rows:,} vectors, {benchmark.dimension} dimensions, {benchmark.metric}, "
        f"{benchmark.backend}"
    )
    figure.suptitle("\n".join(filter(None, (about, few_rows(benchmark)))), fontsize=9)
    try:
        figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
    except OSError as error:
        raise InputError(
            f"the picture {file} cannot be written: {error.strerror}", "name another file"
        ) from None
    finally:
        plt.close(figure)


def _draw(axes: Any, points: Sequence[tuple[float, float]], label: str, colour: str) -> None:
    best = pareto(points)
    axes.plot(*zip(*points, strict=True), "o", markersize=3, color=colour, alpha=0.25)
    line = [points[at] for at in best]
    axes.plot(*zip(*line, strict=True), "o-", markersize=4, linewidth=1, color=colour, label=label)


def _ring(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    best = [points[at] for at in pareto(points)]
    ring = {"markersize": 9, "markerfacecolor": "none", "markeredgecolor": "black"}
    axes.plot(*zip(*best, strict=True), "o", label="no other beats it", **ring)
