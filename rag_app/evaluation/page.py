"""The figures as one self-contained HTML page: nothing is fetched, everything is escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rag_app.evaluation import plots
from rag_app.evaluation.runner import SHOWN_CHARACTERS
from rag_app.evaluation.terminal import how_compared, label, number, rows

TEMPLATE = Path(__file__).with_name("report.html.jinja")

_GLANCE = ("hit@1", "hit@5", "in_prompt", "contains", "f1", "correctness", "faithfulness", "cached")
"""Metrics of the first table, as far as they were measured."""
_GLANCE_STAGES = ("first_token", "total")
_QUALITY = ("f1", "hit@5", "hit@1")
"""What quality is, for the plot of quality against latency: the first that was measured."""


def render(summary: Mapping[str, Any]) -> str:
    """Return the page of what `summarize` returned."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = number
    environment.filters["label"] = label
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    variants: Sequence[Mapping[str, Any]] = summary["variants"]
    every = list(rows(summary))
    return template.render(
        summary=summary,
        variants=variants,
        glance=_glance(variants),
        quality_rows=[row for row in every if row[2]],
        cost_rows=[row for row in every if not row[2]],
        findings=_findings(variants),
        figures=_figures(variants),
        differing=_differing(variants),
        colours=plots.COLOURS,
        shown=SHOWN_CHARACTERS,
        answering=[variant for variant in variants if "contains" in variant["metrics"]],
        compared=how_compared(summary) if len(variants) > 1 else "",
    )


def _glance(variants: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the most important figures: a column's label, and its figure for each variant."""
    columns: dict[str, list[Any]] = {}
    for name in _GLANCE:
        figures = [variant["metrics"].get(name) for variant in variants]
        if any(figures):
            columns[label(name)] = figures
    for stage in _GLANCE_STAGES:
        figures = [variant["ms"].get(stage, {}).get("p50") for variant in variants]
        if any(figures):
            columns[f"ms {label(stage)} p50"] = figures
    return columns


def _findings(variants: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return, for each variant but the first, what differs beyond noise."""
    return [
        (
            variant["name"],
            [
                (label(name), figure["value"])
                for name, figure in variant["differences"].items()
                if figure["beyond_noise"]
            ]
            + [
                (f"ms {label(stage)} p50", figures["p50"]["value"])
                for stage, figures in variant["ms_differences"].items()
                if stage in _GLANCE_STAGES and figures["p50"]["beyond_noise"]
            ],
        )
        for variant in variants[1:]
    ]


def _figures(variants: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, Markup]]:
    """Return the plots, each with its heading and what to see in it."""
    found = []
    quality = next((name for name in _QUALITY if name in variants[0]["metrics"]), None)
    points = [
        (variant["name"], variant["metrics"][quality], variant["ms"]["total"]["p50"])
        for variant in variants
        if quality in variant["metrics"] and "total" in variant["ms"]
    ]
    if quality and points:
        found.append(
            (
                "Quality against latency",
                "Up and to the left is better. Bars are 95% intervals.",
                plots.quality_against_latency(points, label(quality)),
            )
        )
    judged = [variant for variant in variants if variant["risk_curve"]]
    if judged:
        found.append(
            (
                "Risk against coverage",
                "The share of questions whose contexts do not hold the answer, of those answered, "
                "the surest first. Down and to the right is better.",
                plots.risk_curves([(each["name"], each["risk_curve"]) for each in judged]),
            )
        )
    graded = [variant for variant in variants if sum(variant["ranks"].values())]
    if graded:
        found += [
            (
                "hit@k",
                "The share of questions whose answer is among the first k nodes.",
                plots.hit_curves([(each["name"], each["hit_curve"]) for each in graded]),
            ),
            (
                "Where answers fell",
                "The rank of the first node that answers the question.",
                plots.rank_bars([(each["name"], each["ranks"]) for each in graded]),
            ),
        ]
    return found


def _differing(variants: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the configuration's keys whose values differ between variants."""
    keys = variants[0]["config"]
    return {
        key: [variant["config"][key] for variant in variants]
        for key in keys
        if any(variant["config"][key] != keys[key] for variant in variants)
    }
