"""Packing: exactly what fits, the worst dropped first, best last, and a ledger of it."""

from collections.abc import Sequence

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from rag_app.answering.packing import ORDERS, Packed, best_last, canonical, keep_all, pack
from rag_app.errors import ConfigError
from tests.conftest import words

QUESTION = "what is it"
HEAD = 7
"""Words of the prompt below without contexts."""


def node(rank: int, length: int) -> NodeWithScore:
    text = " ".join([f"rank{rank}"] * length)
    made = TextNode(id_=f"{rank:032x}", text=text, metadata={"path": f"{rank}.md"})
    return NodeWithScore(node=made, score=1 / rank)


def nodes(*lengths: int) -> list[NodeWithScore]:
    return [node(rank, length) for rank, length in enumerate(lengths, start=1)]


def render(ordered: Sequence[NodeWithScore]) -> str:
    contexts = "\n".join(each.node.get_content() for each in ordered)
    return f"answer from these contexts\n{contexts}\n{QUESTION}"


def count(prompt: str) -> int:
    return len(words(prompt))


def packed(budget: int, *lengths: int) -> Packed:
    return pack(nodes(*lengths), render, count, count, budget)


def ranks(result: Packed) -> list[int]:
    return [int(each.node.node_id, 16) for each in result.nodes]


def fates(result: Packed) -> list[str]:
    return [entry.fate for entry in result.ledger]


def test_head_is_counted_right() -> None:
    assert count(render([])) == HEAD


def test_best_is_last() -> None:
    ordered = best_last(nodes(1, 1, 1))
    assert [each.score for each in ordered] == sorted(each.score or 0 for each in ordered)
    assert ranks(packed(100, 5, 5, 5)) == [3, 2, 1]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (HEAD + 60, [3, 2, 1]),
        (HEAD + 59, [2, 1]),
        (HEAD + 30, [2, 1]),
        (HEAD + 29, [1]),
        (HEAD + 10, [1]),
    ],
)
def test_what_fits_exactly_is_kept_and_the_worst_dropped_first(
    budget: int, kept: list[int]
) -> None:
    result = packed(budget, 10, 20, 30)
    assert ranks(result) == kept
    assert result.prompt_tokens == count(result.prompt) <= budget
    assert result.prompt == render(result.nodes)
    assert result.budget == budget
    assert fates(result) == ["kept"] * len(kept) + ["dropped"] * (3 - len(kept))


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 16, 33])
def test_as_many_are_kept_as_fit(number: int) -> None:
    """One more would not have fitted, whatever the bisection met."""
    for fitting in range(1, number + 1):
        result = packed(HEAD + 3 * fitting + 2, *[3] * number)
        assert len(result.nodes) == fitting


def test_a_short_bad_node_is_not_kept_over_a_longer_better_one() -> None:
    assert ranks(packed(HEAD + 15, 10, 20, 1)) == [1]


def test_ledger_tells_each_fate_best_first() -> None:
    result = packed(HEAD + 12, 10, 20)
    first, second = result.ledger
    assert (first.rank, first.path, first.fate, first.tokens) == (1, "1.md", "kept", 10)
    assert (second.rank, second.path, second.fate, second.tokens) == (2, "2.md", "dropped", 20)
    assert second.reason == f"the prompt would exceed {HEAD + 12} tokens"
    assert (first.id, first.score, first.reason) == (f"{1:032x}", 1.0, "")


SENTENCES = "First sentence has five words. " + "Second one has five too. " * 3


def test_best_node_is_trimmed_to_its_first_sentences_if_it_does_not_fit_whole() -> None:
    long = NodeWithScore(node=TextNode(id_="1" * 32, text=SENTENCES), score=1.0)
    result = pack([long, *nodes(3)], render, count, count, HEAD + 12)
    (kept,) = result.nodes
    assert kept.node.get_content() == "First sentence has five words. Second one has five too."
    assert (kept.node.node_id, kept.score) == ("1" * 32, 1.0)
    assert fates(result) == ["trimmed", "dropped"]
    assert result.ledger[0].tokens == 20
    assert "first sentences" in result.ledger[0].reason
    assert result.prompt_tokens == HEAD + 10
    assert long.node.get_content() == SENTENCES, "the retrieved node itself is left alone"


def test_node_whose_first_sentence_does_not_fit_is_dropped() -> None:
    result = packed(HEAD + 2, 10)
    assert (result.nodes, fates(result)) == ([], ["dropped"])
    assert result.prompt_tokens == HEAD


def test_no_nodes_are_an_empty_prompt() -> None:
    result = packed(HEAD)
    assert (result.nodes, result.ledger, result.prompt_tokens) == ([], (), HEAD)


def test_budget_without_room_for_the_question_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        packed(HEAD - 1, 10)
    assert f"{HEAD} tokens before any context" in caught.value.message
    assert f"leaves {HEAD - 1}" in caught.value.message
    for key in ("llm.max_tokens", "llm.context_window", "llm.engine.max_model_len"):
        assert key in caught.value.remedy


def test_prompt_is_counted_whole() -> None:
    """A tokenizer that merges across contexts counts less than the sum; that counts."""

    def merging(prompt: str) -> int:
        return len(set(words(prompt)))

    assert len(pack(nodes(10, 20, 30), render, merging, count, HEAD + 3).nodes) == 3


def test_without_a_window_all_are_kept_best_last() -> None:
    result = keep_all(nodes(1, 2, 3))
    assert ranks(result) == [3, 2, 1]
    assert fates(result) == ["kept"] * 3
    assert [entry.rank for entry in result.ledger] == [1, 2, 3]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [("best_last", [3, 2, 1]), ("best_first", [1, 2, 3]), ("canonical", [1, 2, 3])],
)
def test_order_of_the_prompt(order: str, wanted: list[int]) -> None:
    """Whatever the order, the worst is dropped first, and the ledger is best first."""
    result = pack(nodes(5, 5, 5, 90), render, count, count, 100, ORDERS[order])
    assert ranks(result) == wanted
    assert [entry.rank for entry in result.ledger] == [1, 2, 3, 4]
    dropped = pack(nodes(10, 20, 30), render, count, count, HEAD + 59, ORDERS[order])
    assert sorted(ranks(dropped)) == [1, 2]
    assert dropped.prompt == render(dropped.nodes)


def test_canonical_is_the_documents_own_order() -> None:
    def at(name: str, start: int, score: float) -> NodeWithScore:
        made = TextNode(id_=f"{name}{start}", metadata={"path": name}, start_char_idx=start)
        return NodeWithScore(node=made, score=score)

    found = [at("b", 9, 0.9), at("a", 100, 0.8), at("b", 0, 0.7), at("a", 20, 0.6)]
    assert [each.node.node_id for each in canonical(found)] == ["a20", "a100", "b0", "b9"]
