"""Pictures for the report, as SVG text: they scale, need no library, and their words are words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 520, 330
LEFT, RIGHT, TOP, BOTTOM = 70, 18, 14, 52
COLOURS = 6
"""How many colours the page's style sheet has (Okabe and Ito's, which colour-blind eyes tell
apart); more variants begin again."""
_DASHES = ("", "7 5", "2 4")
"""Of curves, so that one that lies upon another lets it be seen."""
_LAST_SINGLE_RANK = 10


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels; `ticks` have labels."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1.0)
        return round(self.start + share * (self.end - self.start), 1)


def quality_against_latency(
    points: Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]], quality: str
) -> Markup:
    """Draw a point with its intervals for each variant: name, quality, milliseconds.

    Both figures have ``value``, ``low`` and ``high``. Up and to the left is better.
    """
    x = _axis(
        0.0, 1.05 * max(ms["high"] for _, _, ms in points), LEFT, WIDTH - RIGHT, _milliseconds
    )
    y = _axis(
        min(each["low"] for _, each, _ in points),
        max(each["high"] for _, each, _ in points),
        HEIGHT - BOTTOM,
        TOP,
        _share,
    )
    # `Markup.format` escapes what it is given, such as the names of variants.
    marks = [_axes(x, y, "milliseconds for a question (median)", quality)]
    for at, (name, value, ms) in enumerate(points):
        middle_x, middle_y = x(ms["value"]), y(value["value"])
        marks.append(
            Markup('<g class="c{}"><title>{}: {} {:.3f}, {:.1f} ms</title>').format(
                at % COLOURS, name, quality, value["value"], ms["value"]
            )
        )
        marks.append(_line(middle_x, y(value["low"]), middle_x, y(value["high"]), "bar"))
        marks.append(_line(x(ms["low"]), middle_y, x(ms["high"]), middle_y, "bar"))
        marks.append(Markup('<circle cx="{}" cy="{}" r="6"/></g>').format(middle_x, middle_y))
    return _svg(f"{quality} against milliseconds for a question", marks)


def hit_curves(curves: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Draw the share of questions whose answer is among the first k nodes, for each k."""
    depth = max(len(curve) for _, curve in curves)
    ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= depth]
    x = _Axis(
        0.0,
        math.log(max(depth, 2)),  # of 1 it is 0: an axis without length
        LEFT,
        WIDTH - RIGHT,
        [(math.log(k), str(k)) for k in ticks],
    )
    y = _axis(0.0, 1.0, HEIGHT - BOTTOM, TOP, _share)
    marks = [_axes(x, y, "k: nodes looked at", "hit@k")]
    for at, (name, curve) in enumerate(curves):
        points = [(x(math.log(k)), y(hit)) for k, hit in enumerate(curve, start=1)]
        marks.append(
            Markup(
                '<g class="c{}"><title>{}</title><polyline points="{}" stroke-dasharray="{}"/>'
            ).format(
                at % COLOURS,
                name,
                " ".join(f"{a},{b}" for a, b in points),
                _DASHES[at % len(_DASHES)],
            )
        )
        marks += [Markup('<circle cx="{}" cy="{}" r="3"/>').format(*point) for point in points]
        marks.append(Markup("</g>"))
    return _svg("hit@k for each k", marks)


def risk_curves(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Markup:
    """Draw the share of wrong ones among those that are answered, by how many are answered."""
    x = _axis(0.0, 1.0, LEFT, WIDTH - RIGHT, _share)
    worst = max(risk for _, curve in curves for _, risk in curve)
    y = _axis(0.0, worst or 0.1, HEIGHT - BOTTOM, TOP, _share)
    marks = [_axes(x, y, "coverage: share of questions answered", "risk: share of these wrong")]
    for at, (name, curve) in enumerate(curves):
        marks.append(
            Markup(
                '<g class="c{}"><title>{}</title><polyline points="{}" stroke-dasharray="{}"/></g>'
            ).format(
                at % COLOURS,
                name,
                " ".join(f"{x(coverage)},{y(risk)}" for coverage, risk in curve),
                _DASHES[at % len(_DASHES)],
            )
        )
    return _svg("risk against coverage", marks)


def rank_bars(counts: Sequence[tuple[str, Mapping[str, int]]]) -> Markup:
    """Draw where the first hit fell: a group of bars for each rank, and one for never."""
    groups = _groups([ranks for _, ranks in counts])
    shares = [
        [
            sum(ranks.get(rank, 0) for rank in members) / (sum(ranks.values()) or 1)
            for members in groups.values()
        ]
        for _, ranks in counts
    ]
    slot = (WIDTH - LEFT - RIGHT) / len(groups)
    centres = [(at + 0.5, label) for at, label in enumerate(groups)]
    x = _Axis(0.0, float(len(groups)), LEFT, WIDTH - RIGHT, centres)
    y = _axis(0.0, max(max(each) for each in shares) or 1.0, HEIGHT - BOTTOM, TOP, _share)
    marks = [_axes(x, y, "rank of the first node that answers the question", "share of questions")]
    bar = 0.8 * slot / len(counts)
    for at, (name, _) in enumerate(counts):
        for group, (label, share) in enumerate(zip(groups, shares[at], strict=True)):
            left = LEFT + group * slot + 0.1 * slot + at * bar
            marks.append(
                Markup(
                    '<rect class="c{}" x="{:.1f}" y="{}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}: {} in {:.1%}</title></rect>"
                ).format(
                    *(at % COLOURS, left, y(share), max(bar - 1, 1), y(0.0) - y(share)),
                    *(name, label, share),
                )
            )
    return _svg("rank of the first node that answers the question", marks)


def _groups(counts: Sequence[Mapping[str, int]]) -> dict[str, list[str]]:
    """Return the ranks of each bar: 1 to 10 alone, all further ones together, and none."""
    found = {int(rank) for ranks in counts for rank in ranks if rank != "none"}
    groups = {
        str(rank): [str(rank)]
        for rank in range(1, min(max(found, default=1), _LAST_SINGLE_RANK) + 1)
    }
    if further := sorted(rank for rank in found if rank > _LAST_SINGLE_RANK):
        groups[f"{_LAST_SINGLE_RANK + 1}+"] = [str(rank) for rank in further]
    return {**groups, "none": ["none"]}


def _axis(
    low: float, high: float, start: float, end: float, write: Callable[[float, float], str]
) -> _Axis:
    """Choose round ticks, four to nine of them, whose ends hold all values."""
    span = (high - low) or abs(high) or 1.0  # all values may be the same, or 0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(magnitude * by for by in (1, 2, 5, 10) if span / (magnitude * by) <= 6)
    # 0.3 / 0.1 is a little less than 3: rounded down, it would put an empty step below.
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    ticks = [(number * step, write(number * step, step)) for number in range(first, last + 1)]
    return _Axis(ticks[0][0], ticks[-1][0], start, end, ticks)


def _milliseconds(value: float, step: float) -> str:
    return f"{value:.{_decimals(step)}f}"


def _share(value: float, step: float) -> str:
    return f"{value:.{max(1, _decimals(step))}f}"


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _axes(x: _Axis, y: _Axis, x_title: str, y_title: str) -> Markup:
    marks: list[Markup] = []
    bottom = HEIGHT - BOTTOM
    for value, text in y.ticks:
        marks.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        marks.append(_text(LEFT - 8, y(value) + 4, text, "end", "tick"))
    for value, text in x.ticks:
        marks.append(_text(x(value), bottom + 18, text, "middle", "tick"))
    marks.append(_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"))
    marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle"))
    middle = (TOP + bottom) / 2
    marks.append(
        Markup(
            '<text transform="translate(16 {}) rotate(-90)" text-anchor="middle">{}</text>'
        ).format(middle, y_title)
    )
    return Markup("").join(marks)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "title") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def _svg(title: str, marks: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(marks)
    )
