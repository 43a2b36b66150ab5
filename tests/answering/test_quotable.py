"""What can be quoted of a context: sentences, list items, rows and whole code blocks."""

import pytest

from rag_app.answering.quotable import Quotable, split_quotable

CONFIG = "```yaml\ncommon:\n  security:\n    tlsMode: 1\n```"


def texts(text: str, kind: str = "") -> list[str]:
    return [each.text for each in split_quotable(text, "Title", kind)]


def test_prose_is_joined_and_split_into_sentences_under_headings() -> None:
    assert split_quotable(
        "The first sentence goes\nover two lines. And here is the second one.\n\n"
        "## A heading ##\nWhat stands under the heading is this.",
        "Title",
    ) == [
        Quotable("The first sentence goes over two lines.", "Title"),
        Quotable("And here is the second one.", "Title"),
        Quotable("What stands under the heading is this.", "A heading"),
    ]


def test_list_items_stand_alone_without_their_bullets() -> None:
    assert texts(
        "- An item of the list that goes\n  over two lines.\n- Another item of the list.\n"
        "1. The first of all numbered items.\n"
    ) == [
        "An item of the list that goes over two lines.",
        "Another item of the list.",
        "1. The first of all numbered items.",
    ]


def test_fenced_code_is_one_block_with_its_line_breaks() -> None:
    found = split_quotable(f"Turn encryption on like this here:\n\n{CONFIG}\n\nThen restart.", "T")
    assert [(each.text, each.is_fenced) for each in found] == [
        ("Turn encryption on like this here:", False),
        (CONFIG, True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "  security:\n    tlsMode: 1\n```\n\nWhat follows the block is prose and whole.",
        "What follows the block is prose and whole.\n\n```yaml\ncommon:\n  security:",
        "  security:\n    tlsMode: 1\n```\n\nWhat follows the block is prose and whole.\n\n"
        "```python\nclient = MilvusClient()",
        "1/1   Running   0   1m\n```\n\nWhat follows the block is prose and whole.\n\n"
        "```\nNAME   READY   STATUS",
        "common:\n  security:\n    tlsMode: 1\n\nWhat follows the block is prose and whole.",
        "What follows the block is prose and whole.\n\n| a row of a table | that is cut",
    ],
)
def test_what_is_cut_off_is_not_quoted(text: str) -> None:
    assert texts(text) == ["What follows the block is prose and whole."]


def test_block_without_fences_is_quoted_whole() -> None:
    config = "common:\n  security:\n    tlsMode: 1"
    before, after = "The block stands below this line.", "And this is what follows it."
    found = split_quotable(f"{before}\n\n{config}\n\n{after}", "T")
    assert [each.text for each in found] == [before, config, after]
    assert not any(each.is_fenced for each in found)


def test_rows_are_quoted_as_rows() -> None:
    table = (
        "| Parameter name | What it means |\n|---|---|\n"
        "| efConstruction | candidates looked at |\n| M | the most links of a vector |"
    )
    assert texts(table) == [
        "| efConstruction | candidates looked at |",
        "| M | the most links of a vector |",
    ]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_lines_of_records_are_rows(kind: str) -> None:
    assert texts("city: Warsaw, inhabitants: 1860281\ncity: Kraków, inhabitants: 804237", kind) == [
        "city: Warsaw, inhabitants: 1860281",
        "city: Kraków, inhabitants: 804237",
    ]


@pytest.mark.parametrize(
    "text", ["", "Search parameters", "|---|---|", "```\n```", "<div>\n</div>"]
)
def test_labels_and_markup_are_not_quoted(text: str) -> None:
    assert texts(text) == []


def test_a_few_words_without_spaces_say_enough() -> None:
    assert texts("北京是中国的首都城市。") == ["北京是中国的首都城市。"]
