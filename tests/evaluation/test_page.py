"""The HTML report: what is in it, and what a real browser shows of it."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_app.evaluation import plots
from rag_app.evaluation.page import render
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.results import Found, Outcome
from rag_app.evaluation.study import Settings, Study, VariantRun
from rag_app.evaluation.summary import summarize
from rag_app.evaluation.terminal import table
from rag_app.evaluation.variants import Variant
from rag_app.load import load_config

EVIL = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

COLLECT = """
<script>
const all = (what) => [...document.querySelectorAll(what)];
const shown = (element) => { const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0; };
const seen = {
  title: document.title,
  width: innerWidth,
  content: document.documentElement.scrollWidth,
  h1: document.querySelector("h1").innerText,
  glance: all("#glance tr").map((row) => row.innerText),
  plots: all("svg").filter(shown).map((svg) => svg.getAttribute("aria-label")),
  bars: all("rect").filter(shown).length,
  curves: all("polyline").length,
  points: all("g > circle[r='6']").filter(shown).length,
  coloured: new Set(all("g > circle[r='6']").map((each) => getComputedStyle(each).fill)).size,
  outside: all("svg text").filter((text) => {
    const inner = text.getBoundingClientRect();
    const outer = text.ownerSVGElement.getBoundingClientRect();
    return inner.left < outer.left - 1 || inner.right > outer.right + 1; })
    .map((text) => text.textContent),
  smallest: Math.min(...all("svg text").map((text) => text.getBoundingClientRect().height)),
  worst: all("details.worst summary").map((each) => each.innerText),
  requests: performance.getEntriesByType("resource").length,
  foreign: all("script, img, link, iframe").length,
};
all("details").forEach((each) => { each.open = true; });
seen.opened = all("details.worst .found").map((each) => each.innerText);
seen.opened_content = document.documentElement.scrollWidth;
parent.postMessage(JSON.stringify(seen), "*");
</script>"""
WINDOW = """<!DOCTYPE html><html><body><script>
addEventListener("message", (message) => { document.body.textContent = message.data; });
</script><iframe width="{width}" height="1000" style="border: 0" src="report.html"></iframe>
</body></html>"""


def study(variants: int = 3, name: str = "") -> Study:
    """Twelve questions; each further variant finds answers a rank later."""
    questions = [
        EvalQuestion(number, str(number), f"Question {number}? {name}", ("a",), f"{number}.md")
        for number in range(1, 13)
    ]
    runs = []
    for at in range(variants):
        overrides = {"retrieval.similarity_top_k": at + 1}
        outcomes = []
        for number, question in enumerate(questions):
            rank = number % 3 + at
            found = [
                Found(f"n{place}", f"{place}.md", 1 - place / 10, place == rank, f"Text {name}")
                for place in range(6)
            ]
            outcomes.append(
                Outcome(
                    question.key,
                    found,
                    [f"n{rank}"],
                    reach=500 * (rank + 1),
                    kept=5,
                    in_prompt=rank < 5,
                    ms={"embed": 5.0 + number, "search": 9.0 + at, "total": 14.0 + number + at},
                )
            )
        variant = Variant(f"variant-{at}{name}", load_config(overrides=overrides), {})
        runs.append(VariantRun(variant, outcomes, [], Path("r.jsonl"), 0, 100))
    return Study(Settings(), questions, runs)


def summary(**asked: Any) -> dict[str, Any]:
    found = summarize(study(**asked))
    found["questions"] |= {"file": f"some/questions{asked.get('name', '')}.jsonl", "in_file": 12}
    check = {"variant": "variant-0", "metric": "hit@1", "at_least": 0.9, "value": 0.25}
    found["gate"] = [{**check, "passed": False}]
    return found


def test_everything_is_escaped() -> None:
    page = render(summary(name=EVIL))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_page_is_one_file() -> None:
    page = render(summary())
    assert not re.search(r"""(?:src|href)\s*=|@import|url\(""", page)


def test_one_variant_alone() -> None:
    page = render(summary(variants=1))
    assert "variant-0" in page
    assert "Failed: variant-0: hit@1 is 0.250, at least 0.9 was asked for." in page
    assert "beyond noise" not in page.split("How to read this")[0]


def test_wrong_answers_are_shown_where_retrieval_was_right() -> None:
    made = study(variants=1)
    made.questions = [replace(each, answers=("seven",)) for each in made.questions]
    answers = ["It is seven.", "It is eight.", "", None, "seven", "8 or 9", *["seven"] * 3, "8"]
    answers += ["seven"] * 2
    for outcome, answer in zip(made.runs[0].outcomes, answers, strict=True):
        outcome.answer = answer
    made.runs[0].outcomes[4].judged = {"correctness": 2.0}
    made.runs[0].outcomes[5].judged = {"correctness": 4.5}
    made.runs[0].outcomes[9].in_prompt = False
    found = summarize(made)
    found |= {"questions": {**found["questions"], "file": "q.jsonl", "in_file": 12}, "gate": []}
    wrong = found["variants"][0]["wrong_answers"]
    assert [each["line"] for each in wrong] == [2, 3, 5]
    page = render(found)
    assert page.count('<details class="wrong">') == 3
    assert "Answered: It is eight." in page
    assert "Answered: nothing" in page
    assert "Wrong answers" not in render(summary())


def test_figures_of_page_and_terminal_are_the_same() -> None:
    found = summary()
    text, page = table(found), render(found)
    for variant in found["variants"]:
        value = f"{variant['metrics']['mrr@10']['value']:.3f}"
        assert value in text
        assert f"<b>{value}</b>" in page
    assert "+ and -: beyond noise against variant-0" in text
    assert "beyond noise against variant-0, question by question (permutation test" in page


def test_questions_without_evidence_have_no_plots() -> None:
    made = study(variants=1)
    for outcome in made.runs[0].outcomes:
        outcome.gold = outcome.reach = outcome.in_prompt = None
    found = summarize(made)
    found |= {"questions": {**found["questions"], "file": "q.jsonl", "in_file": 12}, "gate": []}
    assert "<svg" not in render(found)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.98, 1.0), (0.0, 123456.0), (3.0, 3.01)])
def test_ticks_are_few_and_hold_all_values(low: float, high: float) -> None:
    axis = plots._axis(low, high, 0, 100, plots._milliseconds)
    assert axis.low <= low <= high <= axis.high + 1e-9
    assert 2 <= len(axis.ticks) <= 9
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)
    assert 0 <= axis(low) <= axis(high) <= 100


def browse(page: str, folder: Path, width: int) -> dict[str, Any]:
    """Return what a browser window of this width shows of a page."""
    if BROWSER is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    report = page.replace("</body>", f"{COLLECT}</body>")
    (folder / "report.html").write_text(report, encoding="utf-8")
    # A frame can be narrower than a window.
    window = folder / "window.html"
    window.write_text(WINDOW.replace("{width}", str(width)), encoding="utf-8")
    done = subprocess.run(
        [
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions"),
            *("--no-first-run", f"--user-data-dir={folder / 'profile'}"),
            *("--virtual-time-budget=5000", "--window-size=1500,1100"),
            *("--dump-dom", window.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r"<body>(\{.*\})\s*</body>", done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(width: int, tmp_path: Path) -> None:
    seen = browse(render(summary(name=f" {EVIL}")), tmp_path, width)
    assert seen["width"] == width
    assert seen["content"] <= width, "nothing but the tables scrolls sideways"
    assert seen["opened_content"] <= width
    assert seen["title"].startswith("rag-app eval: some/questions")
    assert seen["h1"].startswith("How good is it?")
    assert "<img" in seen["h1"], "markup in a name is shown, and not run"
    assert seen["foreign"] == 1, "the one script is this test's"
    assert seen["requests"] == 0
    assert len(seen["glance"]) == 4
    assert seen["glance"][1].split()[0] == "variant-0"
    assert len(seen["plots"]) == 3
    assert (seen["curves"], seen["points"], seen["coloured"]) == (3, 3, 3)
    assert seen["bars"] >= 3 * 3
    assert seen["outside"] == []
    assert seen["smallest"] >= 10, "pixels: words in the plots can be read"
    assert len(seen["worst"]) == 8 + 12 + 12
    assert "answered by node" in seen["worst"][0]
    assert EVIL in seen["opened"][0]
