"""What can be asked: one question, or a file of them."""

import json
import re

import pytest

from rag_app.errors import InputError
from rag_app.questions import BadLine, check_question, read_questions


def test_question_is_stripped() -> None:
    assert check_question("  What?\n") == "What?"


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_empty_question_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        check_question(text)


def test_question_that_is_not_utf_8_is_an_error_that_says_where() -> None:
    latin = "Wo ist Köln?".encode("latin-1").decode("utf-8", "surrogateescape")
    with pytest.raises(InputError, match="not UTF-8 from character 9 on") as caught:
        check_question(latin)
    assert "iconv" in caught.value.remedy


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (r'{"question": "a \ud800"}', "the question is not UTF-8"),
        (r'{"question": "a", "id": "\ud800"}', '"id" is .* no valid text'),
    ],
)
def test_half_a_character_in_json_is_that_lines_error(line: str, reason: str) -> None:
    (bad,) = read_questions([line], "asked.jsonl")
    assert isinstance(bad, BadLine)
    assert re.match(reason, bad.reason)
    json.dumps(bad.to_dict(), ensure_ascii=False).encode()
