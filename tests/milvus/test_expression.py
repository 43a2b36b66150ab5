"""Metadata filters: every row that a filter means is found, no other, and no value escapes."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from rag_app.errors import InputError
from rag_app.load import load_config
from rag_app.milvus import lite_files as milvus_lite_files
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.expression import FIELDS, MOST_NESTED, to_expression
from rag_app.milvus.store import create_store

Value = str | int | float | list[Any] | None
Metadata = Mapping[str, Any]

STRINGS = [
    "",
    "a",
    "html",
    'quo"te',
    "apo'strophe",
    "back\\slash",
    "ends with \\",
    '\\"',
    "new\nline",
    "carriage\rreturn",
    "tab\t",
    "\\n",
    "nul\0byte",
    "bell\a\x1b\x7f",
    "é",
    "e\u0301",
    "中文",
    "😀",
    "100%",
    "my_file",
    "myxfile",
    "{x}",
    "${x}",
    '" or 1 == 1 or "',
    '"] or id not in ["',
    "') or (id != '",
    "u\u2028separator",
    "0",
    "true",
    "null",
]
NUMBERS: list[int | float] = [0, 1, -1, 3, 1.0, 2.5, -0.5, 1e-7, 1e300, 2**53, 2**53 + 1, 2**62]
LISTS: list[list[Any]] = [[], ["a"], ["a", 'quo"te'], [1, 2], [1.0], ["html", 1], ["1"]]
KEYS = ["alpha", "beta", "exists"]
"""Keys of an app's own nodes; the last one is a word of Milvus's expressions."""
KNOWN = ["path", "title", "size", "page"]


# --- what a filter means -------------------------------------------------------------------------

ORDERINGS: dict[FilterOperator, Callable[[Any, Any], bool]] = {
    FilterOperator.LT: operator.lt,
    FilterOperator.LTE: operator.le,
    FilterOperator.GT: operator.gt,
    FilterOperator.GTE: operator.ge,
}


def is_same(have: Any, value: Any) -> bool:
    return isinstance(have, str) == isinstance(value, str) and bool(have == value)


def holds(one: MetadataFilter, metadata: Metadata) -> bool | None:
    """Evaluate a comparison as the documentation says it; None is unknown."""
    have, value, operator_ = metadata.get(one.key), one.value, one.operator
    if operator_ == FilterOperator.IS_EMPTY:
        return have in (None, "", [])
    if operator_ in {FilterOperator.NE, FilterOperator.NIN}:
        positive = FilterOperator.EQ if operator_ == FilterOperator.NE else FilterOperator.IN
        return not holds(one.model_copy(update={"operator": positive}), metadata)
    if have is None or have == []:
        return False
    if operator_ == FilterOperator.EQ:
        return is_same(have, value)
    if operator_ in ORDERINGS:
        if isinstance(have, list):
            return None
        return isinstance(have, str) == isinstance(value, str) and ORDERINGS[operator_](have, value)
    if operator_ == FilterOperator.IN:
        return any(is_same(have, each) for each in as_list(value))
    if operator_ == FilterOperator.TEXT_MATCH:
        return isinstance(have, str) and str(value) in have
    wanted = as_list(value) if isinstance(value, list) else [value]
    found = [
        isinstance(have, list) and any(is_same(each, one_wanted) for each in have)
        for one_wanted in wanted
    ]
    return any(found) if operator_ == FilterOperator.ANY else all(found)


def as_list(value: Value) -> list[Any]:
    assert isinstance(value, list)
    return value


def means(filters: MetadataFilters | MetadataFilter, metadata: Metadata) -> bool | None:
    """Evaluate a filter, with unknown as SQL and Kleene have it."""
    if isinstance(filters, MetadataFilter):
        return holds(filters, metadata)
    found = [means(part, metadata) for part in filters.filters]
    if not found:
        return True
    if filters.condition == FilterCondition.AND:
        return False if False in found else None if None in found else True
    any_ = True if True in found else None if None in found else False
    if filters.condition == FilterCondition.NOT:
        return None if any_ is None else not any_
    return any_


# --- the rows ------------------------------------------------------------------------------------


def node(number: int, metadata: Metadata) -> TextNode:
    return TextNode(
        id_=f"{number:032x}",
        text=f"text {number}",
        metadata=dict(metadata),
        embedding=[1.0, number % 7 / 7],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"{number % 3:032x}")},
    )


POOL: list[Metadata] = [
    *({"alpha": value, "path": value, "title": "T"} for value in STRINGS),
    *({"alpha": value, "size": value, "page": 1} for value in NUMBERS),
    *({"alpha": value, "title": "my_file"} for value in LISTS),
    *({"beta": value} for value in STRINGS),
    *({"exists": value, "page": 3} for value in [*NUMBERS, "a"]),
    {"alpha": None, "beta": 1},
    {},
]


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectionStore]:
    """A Milvus Lite collection with the rows of `POOL`, some of them in a sealed segment."""
    uri = str(tmp_path_factory.mktemp("filters") / "milvus.db")
    store = create_store(load_config(overrides={"vector_store.uri": uri}), dimension=2)
    store.add([node(number, metadata) for number, metadata in enumerate(POOL[:40])])
    store.flush()
    store.add([node(number, metadata) for number, metadata in enumerate(POOL) if number >= 40])
    yield store
    milvus_lite_files.release(uri)


def found_by(
    store: CollectionStore, filters: MetadataFilters, rows: Sequence[Metadata]
) -> set[int]:
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.5], similarity_top_k=len(rows) + 1, filters=filters
    )
    return {int(id_, 16) for id_ in store.query(query).ids or ()}


def meant(filters: MetadataFilters, rows: Sequence[Metadata]) -> set[int]:
    return {number for number, row in enumerate(rows) if means(filters, row)}


def check(store: CollectionStore, filters: MetadataFilters, rows: Sequence[Metadata]) -> None:
    found, expected = found_by(store, filters, rows), meant(filters, rows)
    assert found == expected, (
        to_expression(filters, lite=store._backend.is_lite),
        {number: dict(rows[number]) for number in found ^ expected},
    )


def where(key: str, operator_: str, value: Value) -> MetadataFilters:
    return MetadataFilters(filters=[comparison(key, operator_, value)])


def comparison(key: str, operator_: str, value: Value) -> MetadataFilter:
    return MetadataFilter.model_validate({"key": key, "operator": operator_, "value": value})


def negation(filters: MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=[filters], condition=FilterCondition.NOT)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "operator_", "value", "why"),
    [
        ('x"] == "" or $meta["y', "==", "a", "is no metadata key"),
        ("a.b", "==", "a", "is no metadata key"),
        ("a b", "==", "a", "is no metadata key"),
        ("", "==", "a", "is no metadata key"),
        ("é", "==", "a", "is no metadata key"),
        ("_node_content", "==", "a", "is no metadata key"),
        ("embedding", "==", "a", "is no metadata key"),
        ("type", "==", 3, "type is a text"),
        ("size", ">", "10", "size is a number"),
        ("size", "in", ["10"], "size is a number"),
        ("doc_id", "in", [1], "doc_id is a text"),
        ("type", "==", ["a"], "takes one value"),
        ("type", "==", None, "takes one value"),
        ("type", "in", "a", "takes a list"),
        ("type", "any", ["a"], "holds one value"),
        ("alpha", "text_match_insensitive", "a", "'text_match_insensitive'"),
        ("alpha", "==", float("nan"), "nan is no number"),
        ("alpha", "<", float("-inf"), "-inf is no number"),
        ("alpha", "==", 2**63, "beyond 64 bits"),
        pytest.param("path", "in", [10**5000], "beyond 64 bits", id="digits in a list"),
        pytest.param("path", "==", 10**5000, "beyond 64 bits", id="digits for a text"),
        pytest.param("page", "in", 10**5000, "beyond 64 bits", id="digits for a list"),
        ("alpha", "==", "\ud800", "not Unicode"),
        ("alpha", "text_match", "a\\b", "Milvus Lite cannot search alpha"),
        ("alpha", "text_match", "100%", "Milvus Lite cannot search alpha"),
        ("alpha", "text_match", 3, "no text"),
        ("exists", "contains", "a", "a word of Milvus's expressions"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    key: str, operator_: str, value: Value, why: str, lite: CollectionStore
) -> None:
    for filters in (where(key, operator_, value), negation(where(key, operator_, value))):
        with pytest.raises(InputError) as caught:
            found_by(lite, filters, POOL)
        assert why in caught.value.message
        assert caught.value.remedy


def test_a_server_is_not_asked_for_a_part_of_a_text() -> None:
    with pytest.raises(InputError, match="cannot be asked of a Milvus server"):
        to_expression(where("path", "text_match", "a"), lite=False)


def test_groups_too_deep_are_refused_and_the_deepest_works(lite: CollectionStore) -> None:
    filters = where("page", "==", 3)
    for _ in range(MOST_NESTED):
        filters = MetadataFilters(filters=[filters, comparison("alpha", "!=", "x")])
    check(lite, filters, POOL)
    check(lite, negation(filters.filters[0]), POOL)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"deeper than {MOST_NESTED}"):
        to_expression(negation(filters), lite=True)


# --- each value is read back as it is ------------------------------------------------------------


@pytest.mark.parametrize("text", STRINGS, ids=repr)
def test_a_text_finds_exactly_its_rows(text: str, lite: CollectionStore) -> None:
    for key in ("alpha", "path", "beta"):
        for operator_ in ("==", "!=", "<", ">="):
            for filters in (where(key, operator_, text), negation(where(key, operator_, text))):
                check(lite, filters, POOL)


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_number_finds_exactly_its_rows(number: float, lite: CollectionStore) -> None:
    for key in ("alpha", "size", "exists"):
        for operator_ in ("==", "!=", "<", ">="):
            for filters in (where(key, operator_, number), negation(where(key, operator_, number))):
                check(lite, filters, POOL)


def test_not_finds_the_rows_without_the_field(lite: CollectionStore) -> None:
    has_page_3 = where("page", "==", 3)
    found = found_by(lite, negation(has_page_3), POOL)
    assert len(POOL) - 1 in found
    assert found | found_by(lite, has_page_3, POOL) == set(range(len(POOL)))


def test_long_lists_work(lite: CollectionStore) -> None:
    for key, length in (("path", 10_000), ("alpha", 200)):
        many = [f"x{number}" for number in range(length)]
        for operator_ in ("in", "nin"):
            check(lite, where(key, operator_, [*many, "html", *many]), POOL)
    ids = [f"{number:032x}" for number in range(5, 3000)]
    assert found_by(lite, where("id", "in", ids), POOL) == set(range(5, len(POOL)))


# --- a part of a text ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["a", "e", "中", "😀", "o'", '"', "\n", "%", "_", "y_f", "0%"])
def test_a_part_of_a_text_finds_exactly_its_rows(part: str, lite: CollectionStore) -> None:
    for key, operator_ in itertools.product(["path", "title"], ["text_match", "contains"]):
        expected = {n for n, row in enumerate(POOL) if part in str(row.get(key, ""))}
        found = found_by(lite, where(key, operator_, part), POOL)
        assert found == expected
        assert found_by(lite, negation(where(key, operator_, part)), POOL) == (
            set(range(len(POOL))) - expected
        )
    assert found_by(lite, where("text", "text_match", "text 1"), POOL) == {
        number for number in range(len(POOL)) if str(number).startswith("1")
    }


def test_wildcards_that_lite_would_read_are_refused(lite: CollectionStore) -> None:
    wild, plain = comparison("path", "text_match", "my_file"), comparison("title", "contains", "T")
    for other in (plain, comparison("alpha", "contains", "a"), comparison("beta", "==", "a")):
        both = MetadataFilters(filters=[wild, other])
        with pytest.raises(InputError, match="cannot search path for 'my_file' in one filter with"):
            to_expression(both, lite=True)
    check(lite, MetadataFilters(filters=[wild, comparison("page", "is_empty", None)]), POOL)


# --- times ---------------------------------------------------------------------------------------

TIMES = [
    "2025-12-31T23:59:59+00:00",
    "2026-01-01T00:00:00+00:00",
    "2026-01-01T12:00:00+00:00",
    "2026-01-01T23:59:59+00:00",
    "2026-01-02T00:00:00+00:00",
]


TIMES_ROWS: list[Metadata] = [*({"modified": time} for time in TIMES), {}]


@pytest.mark.parametrize(
    ("operator_", "value", "expected"),
    [
        ("==", "2026-01-01", {1, 2, 3}),
        ("!=", "2026-01-01", {0, 4, 5}),
        ("<", "2026-01-01", {0}),
        ("<=", "2026-01-01", {0, 1, 2, 3}),
        (">", "2026-01-01", {4}),
        (">=", "2026-01-01", {1, 2, 3, 4}),
        ("in", ["2025-12-31", "2026-01-02"], {0, 4}),
        ("nin", ["2025-12-31", "2026-01-02"], {1, 2, 3, 5}),
        ("==", "2026-01-01T13:00:00+01:00", {2}),
        ("<=", "2026-01-01T12:00:00Z", {0, 1, 2}),
        (">", "2026-01-01T12:00:00", {3, 4}),
        ("text_match", "-01T", {1, 2, 3}),
    ],
)
def test_a_time_is_compared_as_such(
    operator_: str, value: Value, expected: set[int], times_store: CollectionStore
) -> None:
    filters = where("modified", operator_, value)
    everything = set(range(len(TIMES) + 1))
    assert found_by(times_store, filters, TIMES_ROWS) == expected
    assert found_by(times_store, negation(filters), TIMES_ROWS) == everything - expected


@pytest.fixture(scope="module")
def times_store(lite: CollectionStore) -> CollectionStore:
    store = another(lite, "times")
    store.add([node(number, metadata) for number, metadata in enumerate(TIMES_ROWS)])
    return store


def another(lite: CollectionStore, name: str) -> CollectionStore:
    """Make one more collection in the same database."""
    overrides = {"vector_store.uri": lite._uri, "vector_store.collection": name}
    return create_store(load_config(overrides=overrides), dimension=2)


# --- any filter finds the rows it means ----------------------------------------------------------

texts: st.SearchStrategy[Any] = st.sampled_from(STRINGS) | st.text(max_size=8).filter(
    lambda text: text.isprintable()
)
anything: st.SearchStrategy[Any] = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers: st.SearchStrategy[Any] = (
    st.sampled_from(NUMBERS) | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)
)
scalars = texts | numbers
of_texts, of_numbers = st.lists(texts, max_size=4), st.lists(numbers, max_size=4)


def comparisons_of(keys: Sequence[str], *, lists: bool) -> st.SearchStrategy[MetadataFilter]:
    def for_key(key: str) -> st.SearchStrategy[MetadataFilter]:
        kind = FIELDS.get(key)
        values: st.SearchStrategy[Any] = {str: texts | anything, float: numbers}[kind or str]
        many: st.SearchStrategy[Any] = {str: of_texts, float: of_numbers}[kind or str]
        if kind is None:
            values, many = values | numbers, many | of_numbers
        plain = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
        options = [
            st.builds(comparison, st.just(key), plain, values),
            st.builds(comparison, st.just(key), st.sampled_from(["in", "nin"]), many),
            st.just(comparison(key, "is_empty", None)),
        ]
        if lists and key not in FIELDS and key != "exists":
            options += [
                st.builds(comparison, st.just(key), st.sampled_from(["any", "all"]), many),
                st.builds(comparison, st.just(key), st.just("contains"), values),
            ]
        return st.one_of(options)

    return st.sampled_from(keys).flatmap(for_key)


def trees(leaves: st.SearchStrategy[MetadataFilter]) -> st.SearchStrategy[MetadataFilters]:
    def group(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[MetadataFilters]:
        return st.builds(
            MetadataFilters,
            filters=st.lists(parts, max_size=3),
            condition=st.sampled_from(FilterCondition),
        )

    return group(st.recursive(leaves, group, max_leaves=5))


def examples(number: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@pytest.fixture(scope="module")
def times(request: pytest.FixtureRequest) -> int:
    return 20 if request.config.getoption("--slow") else 1


def fuzz(store: CollectionStore, leaves: st.SearchStrategy[MetadataFilter], number: int) -> None:
    @examples(number)
    @given(trees(leaves))
    def run(filters: MetadataFilters) -> None:
        check(store, filters, POOL)

    run()


def test_any_filter_over_keys_of_mixed_types(lite: CollectionStore, times: int) -> None:
    fuzz(lite, comparisons_of([*KEYS, *KNOWN], lists=True), 60 * times)


def test_any_filter_over_rag_apps_own_keys(lite: CollectionStore, times: int) -> None:
    fuzz(lite, comparisons_of([*KNOWN, "type"], lists=False), 40 * times)


rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(KEYS, scalars | st.sampled_from(LISTS) | st.none()),
            **dict.fromkeys(["path", "title"], texts),
            **dict.fromkeys(["size", "page"], numbers),
        },
    ),
    min_size=4,
    max_size=4,
)


def test_any_filter_over_any_rows(lite: CollectionStore, times: int) -> None:
    store = another(lite, "drawn")

    @examples(25 * times)
    @given(rows, st.lists(trees(comparisons_of([*KEYS, *KNOWN], lists=True)), max_size=4))
    def run(drawn: list[Metadata], filters: list[MetadataFilters]) -> None:
        store.add([node(number, metadata) for number, metadata in enumerate(drawn)])
        for each in filters:
            check(store, each, drawn)

    run()


# --- on a server ---------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize("store_overrides", ["server"], indirect=True)
def test_a_server_finds_the_same_rows(store_overrides: dict[str, str], times: int) -> None:
    config = load_config(overrides=dict(store_overrides))
    store = create_store(config, dimension=2)
    store.add([node(number, metadata) for number, metadata in enumerate(POOL[:40])])
    store.flush()
    store.add([node(number, metadata) for number, metadata in enumerate(POOL) if number >= 40])
    store.add([node(0, {**POOL[0], "page": 7})])
    store.add([node(0, POOL[0])])
    for value in [*STRINGS, *NUMBERS]:
        for key in ("alpha", "path" if isinstance(value, str) else "size"):
            check(store, where(key, "==", value), POOL)
        check(store, negation(where("alpha", "<", value)), POOL)
    check(store, where("path", "in", [f"x{n}" for n in range(2000)] + STRINGS[:9]), POOL)
    check(store, where("alpha", "nin", [f"x{n}" for n in range(2000)] + STRINGS[:9]), POOL)
    fuzz(store, comparisons_of([*KEYS, *KNOWN], lists=True), 20 * times)
    store.client.drop_collection(store.collection_name)
