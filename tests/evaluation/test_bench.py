"""scripts/bench_retrieval.py measures what ``rag-app eval`` measures."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.evaluation.questions import EvalQuestion
from scripts import bench_answers, bench_query
from scripts.bench_retrieval import METRICS, main, quick_start
from tests.conftest import FakeEmbedder, json_of, make_files


def test_figures_agree_with_those_of_the_command(
    fake_embedder: FakeEmbedder,
    docs: Path,
    tmp_path: Path,
    run: Callable[..., Result],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"question": "How long is dough kneaded?", "answers": ["ten minutes"], "file": "bread.txt"},
        {"question": "What is M in the graph?", "answers": ["maximum degree"], "file": "index.md"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folder = make_files(tmp_path / "data", {"squad/questions.jsonl": text})
    (folder / "squad/docs").symlink_to(docs)
    main(
        [
            str(folder),
            "--sets",
            "squad,absent",
            "--sizes",
            "20,40",
            "--modes",
            "dense",
            "--work",
            str(tmp_path / "w"),
        ]
    )
    printed = capsys.readouterr()
    assert "skipped absent: there is no" in printed.err
    head, _, first, second = (line.strip("| ").split(" | ") for line in printed.out.splitlines())
    assert (first[:4], second[:4]) == (
        ["squad", "20", "dense", "2"],
        ["squad", "40", "dense", "2"],
    )
    small = ("--set", "chunking.size=40", "--set", "chunking.overlap=4")
    assert run("ingest", str(folder / "squad/docs"), *small).exit_code == 0
    dense = ("--set", "retrieval.mode=dense")
    result = run("eval", str(folder / "squad/questions.jsonl"), *small, *dense, "--json")
    metrics = json_of(result)["variants"][0]["metrics"]
    for name, figure in zip(head, second, strict=True):
        if re.search("@", name):
            assert figure == f"{metrics[name]['value']:.3f}"


def test_quick_start_is_measured_by_the_same_rules(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "llama_index.embeddings.huggingface.HuggingFaceEmbedding", lambda **_: FakeEmbedder()
    )
    questions = [
        EvalQuestion(1, "a", "How long is dough kneaded?", ("ten minutes",), "bread.txt"),
        EvalQuestion(2, "b", "How long is dough kneaded?", ("a fortnight",), "bread.txt"),
    ]
    figures = dict(zip(METRICS, quick_start(docs, questions), strict=True))
    assert figures["hit@10"] == figures["@2000ch"] == 0.5, "one of the two is in the documents"
    assert figures["hit@1"] <= figures["hit@2"] <= figures["hit@10"]


def test_share_of_gold_answers_that_are_quoted(
    fake_embedder: FakeEmbedder, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": "How long is dough kneaded?", "answers": ["ten minutes"]},
        {"question": "How long is the dough kneaded?", "answers": ["a fortnight"]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folder = make_files(tmp_path / "data", {"squad/questions.jsonl": text})
    (folder / "squad/docs").symlink_to(docs)
    all_quoted = ("--set", "llm.extractive.min_similarity=0")
    bench_answers.main([str(folder), "--sets", "squad,absent", *all_quoted])
    printed = capsys.readouterr()
    assert "skipped absent: there is no" in printed.err
    _, _, row = (line.strip("| ").split(" | ") for line in printed.out.splitlines())
    assert row[:4] == ["squad", "2", "0.500", "0.500"]


def test_answering_is_timed_beside_retrieving(
    fake_embedder: FakeEmbedder,
    docs: Path,
    tmp_path: Path,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench_query, "build_embedder", lambda _: fake_embedder)
    assert run("ingest", str(docs)).exit_code == 0
    rows = [{"question": "How long is dough kneaded?"}, {"question": "What is M in the graph?"}]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench_query.main([str(questions)])
    printed = capsys.readouterr().out
    assert re.search(r"^2 questions", printed)
    (row,) = re.findall(r"^\| as configured \|(.*)\|$", printed, re.MULTILINE)
    assert min(map(float, row.split("|"))) > 0
