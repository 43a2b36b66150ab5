"""LlamaIndex `MetadataFilters` → a Milvus expression.

The rule, on both backends: a comparison with a field that a row does not have is false, ``not``
turns false into true, and ``!=`` and ``nin`` are ``not ==`` and ``not in`` (as LlamaIndex's own
`build_metadata_filter_fn` has it). Milvus Lite evaluates a missing field as unknown, which ``not``
leaves unknown, so each ``not`` is pushed down to the comparisons here and asks whether the field
is there.

An ordering is false between a text and a number, and unknown for a list: neither it nor its ``not``
finds that row. Lists are looked into by ``contains``, ``any`` and ``all``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from rag_app.errors import InputError
from rag_app.milvus.literals import quoted

FIELDS: Mapping[str, type[str] | type[float]] = {
    **dict.fromkeys(("path", "title", "file_name", "type", "modified", "root"), str),
    **dict.fromkeys(("content_hash", "id", "doc_id", "text"), str),
    **dict.fromkeys(("size", "page", "node_count"), float),
}
"""What every row of rag_app's own has (`readers.DOCUMENT_METADATA` and the rest; ``page`` only for
documents with pages), and whether it is a text or a number."""

MOST_NESTED = 30
"""Groups inside groups: Milvus Lite's parser is recursive, and Python's stack is finite."""

_COLUMNS = {"id": "id", "doc_id": "doc_id", "text": "text"} | dict.fromkeys(
    ("ref_doc_id", "document_id"),
    "doc_id",  # LlamaIndex's other names of it
)
"""Names that mean a column of the schema, which every row has."""

_NOT_METADATA = {"embedding", "_node_content", "_node_type"}
# ``\Z``, since ``$`` lets a line end through.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_RESERVED = frozenset(
    "and or not in like is null exists iso interval true false contains between".split()  # noqa: SIM905
)
_LARGEST = 2**63 - 1
_FLAT = 16
# No row has an empty id. An expression has to name a field.
_NOTHING = '(id == "")'
_EVERYTHING = '(id != "")'
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

Scalar = str | int | float


def to_expression(filters: MetadataFilters, *, lite: bool) -> str:
    """Translate filters for Milvus Lite or a Milvus server.

    Returns
    -------
    str
        Empty if there is nothing to filter by, as LlamaIndex sees filters without conditions.

    Raises
    ------
    InputError
        For a name that is no metadata key, a value of another type than the field's, and whatever
        the backend cannot be asked safely; it names it.
    """
    translator = _Translator(lite)
    expression = translator.group(filters, negated=False, depth=0)
    translator.check_wildcards()
    return expression or ""


def check_filter(one: MetadataFilter) -> None:
    """Refuse a comparison that neither backend could be asked. Raises as `to_expression`."""
    _Translator(lite=True).comparison(one, negated=False)


@dataclass(frozen=True)
class _Field:
    """A field as an expression names it; `kind` is None for a key that rag_app does not know."""

    key: str
    name: str
    kind: type[str] | type[float] | None
    always_there: bool

    def there(self, *, negated: bool) -> str:
        if self.always_there:
            return _NOTHING if negated else _EVERYTHING
        return f"not (exists {self.name})" if negated else f"(exists {self.name})"

    def unless_missing(self, expression: str) -> str:
        """Hold for rows without the field as well."""
        return expression if self.always_there else f"({self.there(negated=True)} or {expression})"


class _Translator:
    """Translates one tree of filters; `lite` says for which backend."""

    def __init__(self, lite: bool) -> None:
        self._lite = lite
        self._unknown: set[str] = set()
        self._searched: set[str] = set()
        self._wildcards: dict[str, str] = {}

    def check_wildcards(self) -> None:
        """Refuse a % or _ to search for where Milvus Lite would not see that it is escaped.

        Lite evaluates with Arrow, which knows escapes, and falls back to its own interpreter, which
        does not, where values of a key differ in type, where a list is looked into, and where a key
        that is searched is in no row of a segment.
        """
        for key, value in self._wildcards.items():
            others = sorted(self._unknown | (self._searched - {key}))
            if not others:
                continue
            raise InputError(
                f"Milvus Lite cannot search {key} for {value!r} in one filter with "
                f"{', '.join(others)}: it would read % and _ as wildcards",
                "search for a part of it without these characters, or compare with ==",
            )

    def group(self, filters: MetadataFilters, *, negated: bool, depth: int) -> str | None:
        """Translate a group; None if it has no condition, which is always true."""
        if depth > MOST_NESTED:
            raise InputError(
                f"the filter is nested deeper than {MOST_NESTED} groups", "flatten it: and, or, in"
            )
        condition = filters.condition or FilterCondition.AND
        negated ^= condition == FilterCondition.NOT  # none of its parts: not (a or b)
        parts = []
        for part in filters.filters:
            if isinstance(part, MetadataFilters):
                inner = self.group(part, negated=negated, depth=depth + 1)
                parts.append(inner or (_NOTHING if negated else _EVERYTHING))
            else:
                parts.append(self.comparison(part, negated=negated))
        # De Morgan: the ``not`` that is pushed into a group makes its and an or.
        both = (condition == FilterCondition.AND) != negated
        return _join(parts, "and" if both else "or") if parts else None

    def comparison(self, one: MetadataFilter, *, negated: bool) -> str:
        """Translate one comparison, or its negation."""
        field = _field(one.key)
        if field.kind is None:
            self._unknown.add(field.key)
        operator, value = one.operator, one.value
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(each, int) and abs(each) > _LARGEST for each in numbers):
            raise InputError(f"{one.key}: a number beyond 64 bits", "compare with a smaller one")
        if operator in _NEGATED:
            operator, negated = _NEGATED[operator], not negated
        if operator == FilterOperator.IS_EMPTY:
            return self._is_empty(field, negated)
        if operator in {FilterOperator.IN, FilterOperator.ANY, FilterOperator.ALL}:
            if not isinstance(value, list):
                raise InputError(
                    f"{one.operator.value!r} takes a list; {one.key} is compared with {value!r}",
                    f'write {one.key} in ["…", "…"], or use ==',
                )
            if operator == FilterOperator.IN:
                return self._in(field, value, negated)
            _refuse_no_list(field, operator)
            parts = [self._contains(field, each, negated) for each in value]
            return self._all_or_any(field, parts, operator, negated)
        if isinstance(value, list) or value is None:
            raise InputError(
                f"{one.operator.value!r} takes one value; {one.key} is compared with {value!r}",
                "use in, any or all for a list, is_empty for no value",
            )
        if operator in {FilterOperator.TEXT_MATCH, FilterOperator.CONTAINS}:
            # The fields that are known hold no lists: of them, a part of the text is meant.
            if operator == FilterOperator.TEXT_MATCH or field.kind is not None:
                return self._has_text(field, value, negated)
            return self._contains(field, value, negated)
        if operator not in _COMPARISONS:
            raise InputError(
                f"the operator {one.operator.value!r} (on {one.key}) is not there: Milvus compares "
                "texts as they are written",
                f"use one of {', '.join(_KNOWN_OPERATORS)}",
            )
        return self._compare(field, operator.value, value, negated)

    def _compare(self, field: _Field, operator: str, value: Scalar, negated: bool) -> str:
        _check_type(field, value)
        if field.key == "modified" and isinstance(value, str):
            return self._compare_time(field, operator, value, negated)
        if not negated:
            return f"{field.name} {operator} {_literal(value)}"
        parts = [f"{field.name} {_OPPOSITE[operator]} {_literal(value)}"]
        if field.kind is None and operator != "==":  # an ordering with another type is false
            is_text, is_number = f'{field.name} >= ""', f"{field.name} >= 0 or {field.name} < 0"
            parts.append(is_number if isinstance(value, str) else is_text)
        return field.unless_missing(" or ".join(parts))

    def _compare_time(self, field: _Field, operator: str, value: str, negated: bool) -> str:
        """Compare with a time, or with a day as a whole, written as the rows have it."""
        start, end = _span(value)
        if end is None:
            bounds = [(operator, start)]
        else:
            bounds = {
                "==": [(">=", start), ("<", end)],
                "<": [("<", start)],
                "<=": [("<", end)],
                ">": [(">=", end)],
                ">=": [(">=", start)],
            }[operator]
        parts = [
            f'{field.name} {_OPPOSITE[sign] if negated else sign} "{time}"' for sign, time in bounds
        ]
        together = _join(parts, "or" if negated else "and")
        return field.unless_missing(together) if negated else together

    def _in(self, field: _Field, values: Sequence[Scalar], negated: bool) -> str:
        if not values:
            return _EVERYTHING if negated else _NOTHING
        values = list(dict.fromkeys(values))
        if field.kind is str and field.key != "modified":
            for value in values:
                _check_type(field, value)
            name = _COLUMNS.get(field.key, field.key)  # Lite takes no $meta["…"] before "in"
            listed = ", ".join(_literal(value) for value in values)
            if not negated:
                return f"{name} in [{listed}]"
            return field.unless_missing(f"{name} not in [{listed}]")
        # Lite fails on "in" where a row's value is a list, and compares no 1 with 1.0 there.
        parts = [self._compare(field, "==", value, negated) for value in values]
        return _join(parts, "and" if negated else "or")

    def _contains(self, field: _Field, value: Scalar, negated: bool) -> str:
        """Tell whether a list has an element; false for what is no list, on both backends."""
        if field.key.lower() in _RESERVED:
            raise InputError(
                f"the metadata key {field.key!r} is a word of Milvus's expressions, and "
                "'contains', 'any' and 'all' cannot be asked of it",
                "give the key another name",
            )
        literals = [_literal(value)]
        # An integer beyond is another number as a float.
        if isinstance(value, float) or (isinstance(value, int) and abs(value) <= 2**53):
            literals.append(repr(float(value)))  # a server finds no 1.0 in a list by 1
        # Lite takes a negative number in a list only.
        found = f"json_contains_any({field.key}, [{', '.join(literals)}])"
        return field.unless_missing(f"not {found}") if negated else found

    def _all_or_any(
        self, field: _Field, parts: list[str], operator: FilterOperator, negated: bool
    ) -> str:
        every = operator == FilterOperator.ALL
        if not parts:
            if every:
                return field.there(negated=negated)
            return _EVERYTHING if negated else _NOTHING
        return _join(parts, "and" if every != negated else "or")

    def _has_text(self, field: _Field, value: Scalar, negated: bool) -> str:
        _check_type(field, value)
        if not isinstance(value, str) or not value:
            raise InputError(
                f"{field.key} is searched for {value!r}, which is no text", 'name one: "…"'
            )
        if not self._lite:
            raise InputError(
                f"whether {field.key} contains {value!r} cannot be asked of a Milvus server",
                "compare the whole text (==, in), or its beginning: "
                f'{field.key} >= "guide/" and {field.key} < "guide0"',
            )
        if "\\" in value:
            raise InputError(
                f"Milvus Lite cannot search {field.key} for {value!r}: it reads \\ as an escape",
                "search for a part of it without \\, or compare with ==",
            )
        if not field.always_there:
            self._searched.add(field.key)
        pattern = re.sub(r"([%_])", r"\\\1", value)
        if pattern != value:
            self._wildcards[field.key] = value
        found = f"{field.name} like {_literal(f'%{pattern}%')}"
        return field.unless_missing(f"not ({found})") if negated else found

    def _is_empty(self, field: _Field, negated: bool) -> str:
        """Tell whether there is no value; rows have no None and no empty list (`collection`)."""
        if field.kind is float:
            return field.there(negated=not negated)
        if negated:
            return _join([field.there(negated=False), f'{field.name} != ""'], "and")
        return field.unless_missing(f'{field.name} == ""')


_NEGATED = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}
_COMPARISONS = {
    FilterOperator.EQ,
    FilterOperator.LT,
    FilterOperator.LTE,
    FilterOperator.GT,
    FilterOperator.GTE,
}
_KNOWN_OPERATORS = [
    operator.value
    for operator in FilterOperator
    if operator != FilterOperator.TEXT_MATCH_INSENSITIVE
]


def _field(key: str) -> _Field:
    if key in _COLUMNS:
        return _Field(key, _COLUMNS[key], str, always_there=True)
    if not _NAME.match(key) or key in _NOT_METADATA:
        raise InputError(
            f"{key!r} is no metadata key that can be filtered by",
            f"use one of {', '.join(FIELDS)}, or a key of letters, digits and _ that your own "
            "nodes have",
        )
    return _Field(key, f'$meta["{key}"]', FIELDS.get(key), always_there=False)


def _check_type(field: _Field, value: Scalar) -> None:
    if field.kind is str and not isinstance(value, str):
        raise InputError(
            f"{field.key} is a text, and is compared with the number {value!r}",
            f'put it in quotes: "{value}"',
        )
    if field.kind is float and isinstance(value, str):
        raise InputError(
            f"{field.key} is a number, and is compared with the text {value!r}",
            f"write a number without quotes: {field.key} > 10",
        )


def _refuse_no_list(field: _Field, operator: FilterOperator) -> None:
    if field.kind is not None:
        raise InputError(
            f"{field.key} holds one value, and {operator.value!r} looks into lists",
            f'use in: {field.key} in ["…", "…"]',
        )


def _span(value: str) -> tuple[str, str | None]:
    """Return a time as rows have it; for a day its start and the next day's."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            day = date.fromisoformat(value)
            return f"{day}T00:00:00+00:00", f"{day + timedelta(days=1)}T00:00:00+00:00"
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"modified is a time, and is compared with {value!r}",
            'write a day or a time, UTC unless it says otherwise: "2026-01-31", '
            '"2026-01-31T18:00:00", "2026-01-31T18:00:00+02:00"',
        ) from None
    return time.isoformat(), None


def _literal(value: Scalar) -> str:
    return quoted(value) if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    if isinstance(value, int):
        return repr(value)
    if not math.isfinite(value):
        raise InputError(f"{value!r} is no number that can be compared", "name a finite one")
    if value.is_integer() and abs(value) <= _LARGEST:
        value = int(value)  # as a fraction, a server rounds what it is compared with
    return repr(value)


def _join(parts: Sequence[str], word: str) -> str:
    """Join with ``and`` or ``or``; a long list as a tree, so that no parser recurses far.

    What is joined is a comparison, a ``not (…)`` or in parentheses: it binds more tightly.
    """
    if len(parts) == 1:
        return parts[0]
    if len(parts) <= _FLAT:
        return "(" + f" {word} ".join(parts) + ")"
    half = len(parts) // 2
    return f"({_join(parts[:half], word)} {word} {_join(parts[half:], word)})"
