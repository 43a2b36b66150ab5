"""scripts/bench_retrieval.py measures what ``rag-app eval`` measures."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from scripts.bench_retrieval import main
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
