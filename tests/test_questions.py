"""What can be asked."""

import pytest

from rag_app.errors import InputError
from rag_app.questions import check_question


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
