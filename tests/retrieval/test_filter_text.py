"""The text of a filter: what it means, and where it is wrong."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rag_app.errors import InputError
from rag_app.milvus.expression import MOST_NESTED
from rag_app.retrieval.filter_text import parse_filter


def shape(filters: MetadataFilters | MetadataFilter | None) -> Any:
    """Write a filter as nested lists."""
    if filters is None:
        return None
    if isinstance(filters, MetadataFilter):
        return [filters.key, filters.operator.value, filters.value]
    assert filters.condition is not None
    return [filters.condition.value, *(shape(part) for part in filters.filters)]


A, B, C = ["type", "==", "a"], ["page", "<", 3], ["size", ">=", 2.5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (" \n\t", None),
        ('type = "a"', ["and", A]),
        ("type=='a'", ["and", A]),
        ('type = "a" and page < 3', ["and", A, B]),
        ('type = "a" AND page < 3 And size >= 2.5', ["and", A, B, C]),
        ('type = "a" or page < 3 and size >= 2.5', ["or", A, ["and", B, C]]),
        ('(type = "a" or page < 3) and size >= 2.5', ["and", ["or", A, B], C]),
        ('not type = "a" and page < 3', ["and", ["not", A], B]),
        ('not (type = "a" and page < 3)', ["not", ["and", A, B]]),
        ('not not type = "a"', ["not", ["not", A]]),
        ('type != "a" or type <> "a"', ["or", ["type", "!=", "a"], ["type", "!=", "a"]]),
        ('type in ["a", "b"]', ["and", ["type", "in", ["a", "b"]]]),
        ("page not in [1, -2,]", ["and", ["page", "nin", [1, -2]]]),
        ("page in []", ["and", ["page", "in", []]]),
        ('title contains "x"', ["and", ["title", "text_match", "x"]]),
        ('title not contains "x"', ["not", ["title", "text_match", "x"]]),
        ("page is empty", ["and", ["page", "is_empty", None]]),
        ("page is not empty", ["not", ["page", "is_empty", None]]),
        ("page=+3", ["and", ["page", "==", 3]]),
        ("page > -1e3", ["and", ["page", ">", -1000.0]]),
        ("page > .5", ["and", ["page", ">", 0.5]]),
        (r'path = "a\"b\'c\\d\n\t\r"', ["and", ["path", "==", "a\"b'c\\d\n\t\r"]]),
        (r"path = 'a\'b'", ["and", ["path", "==", "a'b"]]),
        (r'path = "\u00e9\ud83d\ude00"', ["and", ["path", "==", "é😀"]]),
        ('path = "a\nb"', ["and", ["path", "==", "a\nb"]]),
        ('path = "and not ) ]"', ["and", ["path", "==", "and not ) ]"]]),
    ],
)
def test_a_text_is_read(text: str, expected: Any) -> None:
    assert shape(parse_filter(text)) == expected


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("type", 5, "after type comes"),
        ("type =", 7, "a text in quotes"),
        ("type = html", 8, 'in quotes: "html"'),
        ('type = "html', 8, "a quote that is not closed"),
        ('type = "a" type', 12, "and, or"),
        ('(type = "a"', 12, "')' is missing"),
        ('type = "a")', 11, "and, or"),
        ('type = "a" && page = 1', 12, "nothing known"),
        ('type = "a" and', 15, "the name of a field"),
        ('and = "a"', 1, "the name of a field"),
        ('tpye = "a"', 1, "did you mean type?"),
        ('author = "a"', 1, "the fields are path, title"),
        ('$meta["x"] = "a"', 1, "nothing known"),
        ("page = 0x10", 8, "nothing known"),
        ("page = 1.2.3", 8, "nothing known"),
        ('page = "3"', 6, "page is a number"),
        ("type = 3", 6, "type is a text"),
        ('page in [1, "a"]', 6, "texts and numbers in one list"),
        ("page in [1 2]", 12, "',' is missing"),
        ("page in 1", 9, "'[' is missing"),
        ("page not = 1", 10, "after page comes"),
        ("page is 3", 9, "'empty' is missing"),
        ('page contains "3"', 6, "page is a number"),
        ('path contains ""', 6, "no text"),
        (r'path contains "a\\b"', 6, "cannot search path"),
        (r'path = "a\qb"', 10, r"\q is no escape"),
        (r'path = "\ud83d"', 6, "not Unicode"),
        ('modified > "yesterday"', 10, "a day or a time"),
        ('modified > "2026-02-30"', 10, "a day or a time"),
        (f"page = {2**63}", 6, "beyond 64 bits"),
        (f"page = {5000 * '9'}", 8, "more than 100 digits"),
        ("page = 1e999", 6, "finite"),
        ("not " * (MOST_NESTED + 1) + "page = 1", 4 * MOST_NESTED + 1, "nested deeper"),
        ("(" * 5000 + "page = 1", MOST_NESTED + 1, "nested deeper"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, at: int, why: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert f"is wrong at character {at}" in caught.value.message
    assert why in str(caught.value)
    assert caught.value.remedy


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_written(text: str) -> None:
    escaped = re.sub(r'["\\]', lambda found: "\\" + found.group(), text)
    assert shape(parse_filter(f'path = "{escaped}"')) == ["and", ["path", "==", text]]
    assert shape(parse_filter(f"path = {as_json(text)}")) == ["and", ["path", "==", text]]


def as_json(text: str) -> str:
    """Write a text as JSON does, which filters read as well (but for ``\\b``, ``\\f``)."""
    return re.sub(r"\\([bf])", lambda f: {"b": r"\u0008", "f": r"\u000c"}[f[1]], json.dumps(text))


@given(st.text(st.sampled_from('type="a12 ()[],<>!andortinpge\\')))
@settings(max_examples=300, deadline=None)
def test_any_input_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        parse_filter(text)
