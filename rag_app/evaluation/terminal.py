"""The figures as a table for the terminal: a row for each metric, a column for each variant."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rag_app.evaluation.significance import ALPHA, fewest
from rag_app.evaluation.summary import COUNTS, PERCENTILES

LABELS = {
    "in_prompt": "answer in prompt",
    "not_refused": "not refused (has answer)",
    "refused": "refused (has none)",
    "confidence_auroc": "confidence AUROC",
    "confidence_ece": "confidence ECE",
    "confidence_aurc": "confidence AURC",
    "exact_match": "exact match",
    "f1": "token F1",
    "contains": "answer contained",
    "cites": "cites a source",
    "citation_precision": "citation precision",
    "answered": "answered (has answer)",
    "abstained": "abstained (has none)",
    "cached": "prefix cache hits",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "answer tokens",
    "kept": "nodes kept",
    "trimmed": "nodes trimmed",
    "dropped": "nodes dropped",
    "first_token": "first token",
    "all_tokens": "all tokens",
}
"""Of metrics and stages whose names are not clear by themselves."""

Cell = tuple[str, ...]


def label(name: str) -> str:
    """Return a metric's or stage's name for people."""
    return LABELS.get(name, name)


def rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any] | None], bool]]:
    """Yield each row: label, a figure for each variant, and whether higher is better.

    Counts that are 0 for all variants are left out.

    A figure has ``value``, ``low``, ``high`` and ``n``, with ``difference`` from the first variant
    in all variants but that.
    """
    variants = summary["variants"]
    names = dict.fromkeys(name for each in variants for name in each["metrics"])
    for name in names:
        figures = [
            _figure(each["metrics"].get(name), each.get("differences", {}).get(name))
            for each in variants
        ]
        # A figure of quality that is 0 says something.
        if name not in COUNTS or any(figure and figure["value"] for figure in figures):
            yield label(name), figures, name not in COUNTS
    stages = dict.fromkeys(stage for each in variants for stage in each["ms"])
    for stage in stages:
        for percentile in PERCENTILES:
            figures = [
                _figure(
                    each["ms"].get(stage, {}).get(percentile),
                    each.get("ms_differences", {}).get(stage, {}).get(percentile),
                )
                for each in variants
            ]
            yield f"ms {label(stage)} {percentile}", figures, False


def _figure(
    figure: Mapping[str, Any] | None, difference: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {**figure, "difference": difference}


def number(value: float) -> str:
    """Write a figure as short as is useful."""
    if abs(value) < 10:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def cell(figure: Mapping[str, Any] | None) -> Cell:
    """Write value, interval, and the difference from the first variant where it is noteworthy."""
    if figure is None:
        return ("-", "", "")
    interval = f"[{number(figure['low'])}, {number(figure['high'])}]"
    difference = figure["difference"]
    if not difference or not difference["beyond_noise"]:
        return (number(figure["value"]), interval, "")
    return (number(figure["value"]), interval, f"{difference['value']:+.3g}")


def table(summary: Mapping[str, Any]) -> str:
    """Return the table."""
    lines: list[list[str]] = [["", *(each["name"] for each in summary["variants"])]]
    cells = [(name, [cell(figure) for figure in figures]) for name, figures, _ in rows(summary)]
    widths = [
        [max((len(each[column][part]) for _, each in cells), default=0) for part in range(3)]
        for column in range(len(summary["variants"]))
    ]
    for name, row in cells:
        lines.append([name, *(_aligned(each, widths[at]) for at, each in enumerate(row))])
    text = _columns(lines)
    if len(summary["variants"]) > 1:
        text += f"\n{how_compared(summary)}"
    return text


def how_compared(summary: Mapping[str, Any]) -> str:
    """Say what makes a difference noteworthy, and where there are too few questions for any."""
    first, *others = summary["variants"]
    several = f", corrected for {len(others)} variants (Holm)" if len(others) > 1 else ""
    text = (
        f"+ and -: beyond noise against {first['name']}, question by question (permutation test, "
        f"p < {ALPHA:g}{several}; not corrected for the number of figures)"
    )
    figures = [each for variant in others for each in variant["differences"].items()]
    if few := sorted({label(name) for name, figure in figures if figure["too_few"]}):
        every = len(few) == len({name for name, _ in figures})
        text += (
            f"\nfewer than {fewest(len(others))} questions, which is too few to tell a difference "
            f"from noise: {'all figures' if every else ', '.join(few)}"
        )
    return text


def _aligned(parts: Cell, widths: Sequence[int]) -> str:
    value, interval, difference = parts
    return f"{value:>{widths[0]}} {interval:<{widths[1]}} {difference:<{widths[2]}}".rstrip()


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
