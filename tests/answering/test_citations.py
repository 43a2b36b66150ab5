"""Citations in answers."""

import pytest

from rag_app.answering.citations import cited_numbers


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("So [2] and [1, 3]; again [2], but not [a] or (4).", [2, 1, 3]),
        ("“It was so in 1890.[12]” [3]\n“And again [4].” [1]", [3, 1]),
        ("```python\nfirst = found[0]\n```\n[2]", [2]),
        ("He calls it “a graph [5]”.", [5]),
        ("Nothing.", []),
    ],
)
def test_cited_numbers(answer: str, numbers: list[int]) -> None:
    """The brackets in what is quoted are the document's own."""
    assert cited_numbers(answer) == numbers
