"""Filters all the way: from the configuration, the command line and LlamaIndex to the answer."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llama_index.core.retrievers import VectorIndexRetriever
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from rag_app import build_index, build_query_engine, build_retriever, ingest, load_config
from rag_app.answering.batch import Answer
from rag_app.build import build_batch
from rag_app.config.sections import Config
from rag_app.errors import ConfigError, InputError
from rag_app.milvus.store import open_store
from rag_app.milvus.stored_documents import list_documents
from rag_app.questions import Question
from rag_app.retrieval.filter_text import parse_filter
from tests.conftest import FakeEmbedder, MakeConfig, json_of

Run = Callable[..., Result]
SMALL = {"chunking__size": 40, "chunking__overlap": 0, "retrieval__similarity_top_k": 20}
AT_A_SHELL = ["--set", "chunking.size=40", "--set", "chunking.overlap=0"]
QUESTION = "Which consistency does a graph of dough show?"


def paths(nodes: Any) -> set[str]:
    return {found.node.metadata["path"] for found in nodes}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"index.md", "guide/consistency.html", "kitchen/bread.txt"}),
        ('type = "html"', {"guide/consistency.html"}),
        ('not type = "html"', {"index.md", "kitchen/bread.txt"}),
        ('path contains "it" and size < 100', {"kitchen/bread.txt"}),
        ('title = "Index types" or file_name = "bread.txt"', {"index.md", "kitchen/bread.txt"}),
        ('text contains "Knead the dough"', {"kitchen/bread.txt"}),
        ("page is empty", {"index.md", "guide/consistency.html", "kitchen/bread.txt"}),
        ('modified < "2000-01-01"', set()),
        ('modified >= "2000-01-01" and type in ["text"]', {"kitchen/bread.txt"}),
    ],
)
def test_a_configured_filter_holds_for_each_retriever(
    text: str, expected: set[str], ingested: Config, make_config: MakeConfig
) -> None:
    config = make_config(**SMALL, retrieval__filter=text)
    retriever = build_retriever(config)
    assert paths(retriever.retrieve(QUESTION)) == expected
    assert paths(asyncio.run(retriever.aretrieve(QUESTION))) == expected
    if expected:
        assert paths(build_query_engine(config).query(QUESTION).source_nodes) <= expected
    index = build_index(config)
    assert paths(index.as_retriever(similarity_top_k=20).retrieve(QUESTION)) == {
        "index.md",
        "guide/consistency.html",
        "kitchen/bread.txt",
    }
    given = index.as_retriever(similarity_top_k=20, filters=parse_filter(text))
    assert paths(given.retrieve(QUESTION)) == expected


def test_nothing_left_to_search_is_an_answer(ingested: Config, make_config: MakeConfig) -> None:
    config = make_config(**SMALL, retrieval__filter="size > 1e12")
    response = build_query_engine(config).query(QUESTION)
    assert response.source_nodes == []
    assert str(response)


def test_a_batch_is_filtered(ingested: Config, make_config: MakeConfig) -> None:
    config = make_config(**SMALL, retrieval__filter='type = "text"')
    questions = [Question(line, None, text) for line, text in enumerate([QUESTION, "HNSW graph"])]
    answers = list(build_batch(config).run(questions))
    for answer in answers:
        assert isinstance(answer, Answer)
        assert {source.path for source in answer.sources} <= {"kitchen/bread.txt"}


@pytest.mark.parametrize(
    ("text", "why"),
    [("type = html", "in quotes"), ('tpye = "a"', "did you mean type?"), ("page >", "a number")],
)
def test_a_wrong_filter_is_an_error_when_the_configuration_is_loaded(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={"retrieval.filter": text})
    assert "retrieval.filter (command line)" in caught.value.message
    assert why in caught.value.message
    assert caught.value.remedy


# --- nodes of an app -----------------------------------------------------------------------------


def test_an_apps_own_nodes_have_keys_of_their_own(
    ingested: Config, make_config: MakeConfig
) -> None:
    index = build_index(make_config(**SMALL))
    index.insert_nodes(
        [
            TextNode(id_="0" * 32, text="a note", metadata={"team": "blue", "tags": ["x", "y"]}),
            TextNode(id_="1" * 32, text="a memo", metadata={"team": None, "tags": []}),
        ]
    )

    def found(*filters: MetadataFilter, condition: FilterCondition) -> set[str]:
        all_ = MetadataFilters(filters=list(filters), condition=condition)
        nodes = index.as_retriever(similarity_top_k=20, filters=all_).retrieve("a memo note")
        return {found.node.get_content(MetadataMode.NONE) for found in nodes}

    blue = MetadataFilter(key="team", value="blue")
    tagged = MetadataFilter(key="tags", value="y", operator=FilterOperator.CONTAINS)
    there = MetadataFilter(key="path", value=None, operator=FilterOperator.IS_EMPTY)
    assert found(blue, tagged, condition=FilterCondition.AND) == {"a note"}
    assert "a memo" in found(blue, condition=FilterCondition.NOT)
    assert "a note" not in found(blue, condition=FilterCondition.NOT)
    assert found(there, condition=FilterCondition.AND) == {"a note", "a memo"}
    (memo,) = VectorIndexRetriever(index, node_ids=["1" * 32]).retrieve("memo")
    assert memo.node.metadata == {"team": None, "tags": []}, "the node itself keeps them"
    assert [document.path for document in list_documents(ingested)] == [
        "guide/consistency.html",
        "index.md",
        "kitchen/bread.txt",
    ]


# --- the time of the file ------------------------------------------------------------------------


def test_the_time_of_a_file_is_in_its_rows_and_in_no_text(
    fake_embedder: FakeEmbedder, docs: Path, make_config: MakeConfig
) -> None:
    config = make_config(**SMALL)
    file = docs / "kitchen" / "bread.txt"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    ingest(config, [docs])
    before = open_store(config).documents()
    old = build_index(config).as_retriever(filters=parse_filter('modified = "2001-09-09"'))
    (found,) = old.retrieve("bread")
    assert found.node.metadata["modified"] == "2001-09-09T01:46:40+00:00"
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "2001" not in found.node.get_content(mode)
    assert not any("2001" in text for text in fake_embedder.embedded)

    os.utime(file, (1_500_000_000, 1_500_000_000))
    report = ingest(config, [docs])
    assert (len(report.unchanged), report.nodes_written) == (3, 0)
    assert open_store(config).documents() == before


# --- at a shell ----------------------------------------------------------------------------------


def test_filter_at_a_shell(ingested: Config, run: Run) -> None:
    only = ["--filter", 'type = "text"', *AT_A_SHELL]
    assert {hit["path"] for hit in json_of(run("retrieve", QUESTION, *only, "--json"))} == {
        "kitchen/bread.txt"
    }
    answer = json_of(run("query", QUESTION, *only, "--json"))
    assert {source["path"] for source in answer["sources"]} <= {"kitchen/bread.txt"}
    Path("questions.txt").write_text(f"{QUESTION}\n")
    batch = run("batch", "questions.txt", *only)
    assert batch.exit_code == 0, batch.output
    assert "index.md" not in batch.stdout
    off = ["--set", "retrieval.filter=size<0", "--filter", "", *AT_A_SHELL]
    assert json_of(run("retrieve", QUESTION, *off, "--json"))


def test_a_wrong_filter_at_a_shell_is_the_users_mistake(ingested: Config, run: Run) -> None:
    wrong = run("retrieve", QUESTION, "--filter", "type = html")
    assert wrong.exit_code == 2
    assert "at character 8 ('html')" in wrong.stderr
    assert wrong.stdout == ""


def test_a_value_ends_where_its_literal_ends(ingested: Config) -> None:
    index = build_index(ingested)
    for value in ('" or 1 == 1 or "', 'x"] or doc_id not in ["', "\\", '\\"', "') or (id != '"):
        for operator in (FilterOperator.EQ, FilterOperator.IN):
            many = [value] if operator == FilterOperator.IN else value
            one = MetadataFilter(key="path", value=many, operator=operator)
            assert index.as_retriever(filters=MetadataFilters(filters=[one])).retrieve("x") == []
    key = MetadataFilter(key='x"] == "" or $meta["y', value="a")
    retriever = index.as_retriever(filters=MetadataFilters(filters=[key]))
    with pytest.raises(InputError, match="no metadata key"):
        retriever.retrieve("x")
