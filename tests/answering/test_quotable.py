"""What can be quoted of a context: sentences, list items, rows and whole code blocks."""

import pytest

from rag_app.answering.quotable import Quotable, split_quotable

CONFIG = "```yaml\ncommon:\n  security:\n    tlsMode: 1\n```"


def texts(text: str, kind: str = "") -> list[str]:
    return [each.block or each.text for each in split_quotable(text, "Title", kind)]


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


def test_what_follows_a_colon_belongs_to_it() -> None:
    found = split_quotable(
        "Scale out in one of these cases:\n\n- The load is high.\n- The data grow:\n  - by rows.\n",
        "T",
    )
    assert found == [
        Quotable("The load is high.", "T", "Scale out in one of these cases:"),
        Quotable("by rows.", "T", "The data grow:"),
        Quotable(
            "Scale out in one of these cases: The load is high.; The data grow:; by rows.", "T"
        ),
    ]
    assert texts("What is left out stands below this line:") == []


def test_lines_of_a_form_are_no_sentence() -> None:
    invoice = (
        "Invoice 2026-17\nSold to Anna Rossi\nTotal: 1,200 EUR\nPayment within thirty days please"
    )
    assert texts(invoice) == ["Total: 1,200 EUR", "Payment within thirty days please"]
    wrapped = "This goes on\nover some lines, and\nit ends here.\nNot before."
    assert texts(wrapped) == ["This goes on over some lines, and it ends here."]


def test_markup_is_left_out() -> None:
    assert texts("The **tool** named [CDC](https://a.b/c) copies<br>your __data__ on `M`.") == [
        "The tool named CDC copies your data on `M`."
    ]


def test_fenced_code_is_one_block_with_its_line_breaks() -> None:
    lead = "Turn encryption on like this here:"
    found = split_quotable(f"{lead}\n\n{CONFIG}\n\nThen restart.", "T")
    assert found == [Quotable("", "T", lead, CONFIG)]


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
    assert [each.text or each.block for each in found] == [before, config, after]


def test_rows_are_quoted_with_the_names_of_their_columns() -> None:
    table = (
        "| Parameter name | What it means |\n|---|---|\n"
        "| efConstruction | candidates looked at |\n| M | the most links of a vector |"
    )
    assert texts(table) == [
        "Parameter name: efConstruction; What it means: candidates looked at",
        "Parameter name: M; What it means: the most links of a vector",
    ]
    assert texts("| M | the most links of a vector |") == ["M | the most links of a vector"]


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
    first, second = "北京是中国的首都城市。", "上海也是一个很大的城市吗？"  # noqa: RUF001
    assert texts(first + second) == [first, second]
