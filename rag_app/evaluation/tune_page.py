"""What `rag-app tune` found as one self-contained HTML page: the frontier, and every finalist."""

from jinja2 import Environment, StrictUndefined

from rag_app.evaluation import plots
from rag_app.evaluation.tune import Trial, Tuned, name_of

_TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>rag-app tune: {{ questions }}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --line: #d5dae0; --paper: #fff; --c0: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --line: #3a424c; --paper: #15191e; --c0: #4aa8e0; }
}
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; } td, th { padding: .3rem .9rem .3rem 0; text-align: left; }
tr { border-top: 1px solid var(--line); } .wide { overflow-x: auto; } p { white-space: pre-line; }
svg { width: 100%; max-width: 40rem; } svg text { fill: var(--ink); font-size: 14px; }
svg .grid, svg .axis { stroke: var(--line); } g line { stroke: var(--c0); }
g circle { fill: var(--c0); } .frontier { font-weight: 600; }
</style></head><body>
<h1>What does best on {{ questions }}?</h1>
<p>{{ verdict }}</p>
<h2>Quality against latency</h2>
<p>Settings that were asked all {{ tuned.questions }} questions. Up and to the left is better; those
on the frontier, which no other beats in both, are in bold below.</p>
{{ plot }}
<div class="wide"><table><tr><th>quality</th><th>ms</th><th>tokens</th><th>setting</th></tr>
{% for trial in tuned.trials %}
<tr><td>{{ "%.3f"|format(trial.quality.value) }} ({{ "%.3f"|format(trial.quality.low) }} to
{{ "%.3f"|format(trial.quality.high) }})</td><td>{{ "%.1f"|format(trial.ms) }}</td>
<td>{{ "%.0f"|format(trial.tokens) }}</td>
<td{% if trial in frontier %} class="frontier"{% endif %}>{{ name(trial.overrides) }}</td></tr>
{% endfor %}
</table></div>
<p>Quality is the mean of whether the contexts hold the answer and 1 / the rank of the first that
does.</p>
</body></html>
"""


def render(tuned: Tuned, questions: str, verdict: str) -> str:
    """Return the page."""
    points = [
        (
            name_of(trial.overrides),
            trial.quality.to_dict(),
            {"value": trial.ms, "low": trial.ms, "high": trial.ms},
        )
        for trial in tuned.trials
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_TEMPLATE).render(
        tuned=tuned,
        questions=questions,
        verdict=verdict,
        name=name_of,
        plot=plots.quality_against_latency(points, "quality") if points else "",
        frontier=frontier(tuned.trials),
    )


def frontier(trials: tuple[Trial, ...]) -> list[Trial]:
    """Return the trials that no other one beats in quality and latency."""
    return [
        each
        for each in trials
        if not any(
            other.quality.value >= each.quality.value and other.ms < each.ms for other in trials
        )
    ]
