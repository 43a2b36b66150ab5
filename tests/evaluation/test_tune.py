"""``rag-app tune``: what is better on documents it has not seen, and nothing where nothing is."""

import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rag_app.app import RagApp
from rag_app.cli.tune import verdict
from rag_app.config.paths import shipped_config
from rag_app.config.sections import Config
from rag_app.evaluation import tuning
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.tune import Overrides, Search, Tuned, cheap_settings
from rag_app.evaluation.tune_page import render
from rag_app.ingestion import run as ingestion
from rag_app.load import override
from tests.conftest import FakeEmbedder, MakeConfig, json_of, make_files

Run = Callable[..., Result]

NUMBER = 48
SETTINGS: list[dict[str, Any]] = [
    {"retrieval.mode": "text"},
    {"retrieval.mode": "hybrid", "retrieval.fusion": "weighted", "retrieval.text_weight": 0.7},
    {"retrieval.mode": "dense", "retrieval.similarity_top_k": 1},
    {"retrieval.mode": "mmr"},
]
ROWS = [
    {
        "question": f"Which valve does machine{at} have?",
        "answers": [f"valve{at * 7}"],
        "file": f"{at}.txt",
    }
    for at in range(NUMBER)
]


@pytest.fixture
def machines(fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig) -> Config:
    """A collection whose vectors, of 8 dimensions, tell little; its words tell all."""
    fake_embedder.dimension = 8
    texts = {
        f"{at}.txt": f"The machine{at} was built long ago. It has the valve valve{at * 7} inside."
        for at in range(NUMBER)
    }
    config = make_config(retrieval__mode="dense", retrieval__similarity_top_k=2)
    ingestion.ingest(config, [make_files(tmp_path / "machines", texts)])
    return config


def search(config: Config, rows: list[dict[str, Any]]) -> Tuned:
    questions = [
        EvalQuestion(at, str(at), row["question"], tuple(row["answers"]), row["file"])
        for at, row in enumerate(rows, start=1)
    ]
    with RagApp(config) as app:
        vectors = app.embedder.embed_queries([each.question for each in questions])

        def opened(setting: Overrides) -> Any:
            changed = {key.partition(".")[2]: value for key, value in setting.items()}
            return app.retriever(**changed)

        return Search(
            open=opened,
            questions=questions,
            vectors={each.key: vector for each, vector in zip(questions, vectors, strict=True)},
            count=lambda text: len(text.split()),
            settings=SETTINGS,
        ).run()


def test_what_is_better_is_found_and_holds_on_documents_not_seen(machines: Config) -> None:
    tuned = search(machines, ROWS)
    assert tuned.is_gain
    assert tuned.best["retrieval.mode"] in {"text", "hybrid"}
    assert tuned.gain.low > 0
    assert tuned.expected["quality"] > tuned.expected["configured"]
    # And nothing is found by labels that are another question's.
    files = [(row["answers"], row["file"]) for row in ROWS]
    random.Random(3).shuffle(files)
    shuffled = [
        {**row, "answers": answers, "file": file}
        for row, (answers, file) in zip(ROWS, files, strict=True)
    ]
    nothing = search(machines, shuffled)
    assert not nothing.is_gain
    assert verdict(nothing).startswith("keep what you have")


def test_all_cheap_settings_can_be_configured(make_config: MakeConfig) -> None:
    settings = cheap_settings(5)
    assert len({repr(each) for each in settings}) == len(settings)
    for setting in settings:
        override(make_config(), setting)


def test_the_command_writes_what_it_found(
    machines: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "cheap_settings", lambda _: SETTINGS[:1])
    text = shipped_config().read_text("utf-8").replace('mode = "hybrid"', 'mode = "dense"')
    Path("config.toml").write_text(text.replace("similarity_top_k = 5", "similarity_top_k = 2"))
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    told = json_of(run("tune", "questions.jsonl", "--write", "--json", "--html", "tune.html"))
    assert told["is_gain"] is True
    assert told["fitted"] is True
    written = tomllib.loads(Path("config.toml").read_text("utf-8"))
    assert written["retrieval"]["mode"] == "text"
    assert "# dense, text, hybrid, mmr" in Path("config.toml").read_text("utf-8")
    assert Path(written["answer"]["confidence"]).is_file()
    assert "Quality against latency" in Path("tune.html").read_text("utf-8")
    # What was written is what is asked with from now on.
    answer = json_of(run("query", ROWS[3]["question"], "--json"))
    assert "valve21" in answer["answer"]
    assert answer["confidence"] > 0.5


def test_too_few_questions_are_refused(machines: Config, run: Run) -> None:
    Path("few.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    result = run("tune", "few.jsonl")
    assert result.exit_code == 2
    assert "too few" in result.stderr


def test_names_are_escaped_in_the_page(machines: Config) -> None:
    tuned = search(machines, ROWS[:20])
    assert "<script>" not in render(tuned, "<script>", "fine")
