"""Questions that ask for several things."""

import asyncio
from pathlib import Path

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from rag_app import build_retriever, ingest
from rag_app.retrieval.decompose import cover, split_question
from tests.conftest import FakeEmbedder, MakeConfig, make_files


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "Who built the tower, and when was the bridge opened?",
            ["Who built the tower?", "when was the bridge opened?"],
        ),
        (
            "Who built the tower? In which year was it opened?",
            ["Who built the tower?", "In which year was it opened?"],
        ),
        (
            "Wer baute den Turm und wann wurde die Brücke eröffnet?",
            ["Wer baute den Turm?", "wann wurde die Brücke eröffnet?"],
        ),
        ("What is the difference between HNSW and IVF_FLAT?", ["HNSW", "IVF_FLAT"]),
        ("Compare scaling up with scaling out.", ["scaling up", "scaling out"]),
        ("HNSW vs. DISKANN?", ["HNSW", "DISKANN"]),
    ],
)
def test_compound_and_comparing_questions_have_parts(question: str, parts: list[str]) -> None:
    assert split_question(question) == parts


@pytest.mark.parametrize(
    "question",
    [
        "Who built the tower and the bridge?",
        "What is known of the man who built the tower?",
        "When did Warsaw and Kraków become cities?",
        "What and where?",
        "Is it open?",
        "HNSW",
        "What do efConstruction and M mean?",
    ],
)
def test_simple_questions_have_none(question: str) -> None:
    assert split_question(question) == [question]


def node(name: str, score: float) -> NodeWithScore:
    return NodeWithScore(node=TextNode(id_=name, text=name), score=score)


def test_each_part_has_its_best_passages_among_the_first() -> None:
    found = [
        [node("a1", 9.0), node("both", 5.0)],
        [node("b1", 3.0), node("both", 2.0)],
        [node("a1", 7.0), node("w2", 6.0)],
    ]
    covered = cover(found, 4)
    assert [(each.node.node_id, each.score) for each in covered] == [
        *(("a1", 9.0), ("b1", 3.0), ("both", 5.0), ("w2", 6.0)),
    ]
    assert len(cover(found, 2)) == 2


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
def test_passages_of_each_part_are_among_those_found(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig, mode: str
) -> None:
    files = {
        "anna.txt": "Anna built the tall round brick tower.",
        "bert.txt": "It was said by many of us that Bert built a tower of brick, tall and round.",
    }
    files |= {f"other{n}.txt": f"A bridge is no boat, says page {n}." for n in range(6)}
    files["bridge.txt"] = "The bridge was opened in 1931."
    settings = {"retrieval__similarity_top_k": 2, "retrieval__mode": mode}
    ingest(make_config(**settings), [make_files(tmp_path / "docs", files)])
    question = "Who built the tall round brick tower, and when was the bridge opened?"

    def found(decompose: str) -> list[list[str]]:
        retriever = build_retriever(make_config(**settings, retrieval__decompose=decompose))
        ways = (
            retriever.retrieve(question),
            asyncio.run(retriever.aretrieve(question)),
            *retriever.retrieve_each([question]),
        )
        return [[node.metadata["path"] for node in nodes] for nodes in ways]

    assert all("bridge.txt" in paths for paths in found("auto"))
    assert all("bridge.txt" not in paths for paths in found("never"))
