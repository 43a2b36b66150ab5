"""``rag-app eval`` as a whole, over a small collection of the fake embedder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]

QUESTIONS: list[dict[str, Any]] = [
    {
        "question": "What is the maximum degree of a node in the graph?",
        "answers": ["M"],
        "gold": {"index.md": ["M is the maximum degree"]},
    },
    {
        "question": "Which consistency shows every write to every search?",
        "answers": ["Strong"],
        "file": "guide/consistency.html",
        "paragraph": "Strong consistency shows every write to every search.",
    },
    {"question": "How long is dough kneaded?", "answers": ["ten minutes"], "file": "bread.txt"},
    {"question": "Who is the king of France?", "answers": []},
]


@pytest.fixture
def questions(here: Path) -> str:
    return write(QUESTIONS)


def write(rows: list[dict[str, Any]], name: str = "questions.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


SMALL = ("--set", "chunking.size=40", "--set", "chunking.overlap=0")
