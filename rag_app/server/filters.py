"""Filters as clients write them, OpenAI's and Dify's → LlamaIndex `MetadataFilters`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from pydantic import BaseModel, ConfigDict, Field

from rag_app.server.errors import RequestError

Scalar = str | int | float

_OPENAI: Mapping[str, FilterOperator] = {
    "eq": FilterOperator.EQ,
    "ne": FilterOperator.NE,
    "gt": FilterOperator.GT,
    "gte": FilterOperator.GTE,
    "lt": FilterOperator.LT,
    "lte": FilterOperator.LTE,
    "in": FilterOperator.IN,
    "nin": FilterOperator.NIN,
}
_DIFY: Mapping[str, FilterOperator] = {
    "is": FilterOperator.EQ,
    "=": FilterOperator.EQ,
    "is not": FilterOperator.NE,
    "≠": FilterOperator.NE,
    ">": FilterOperator.GT,
    "≥": FilterOperator.GTE,
    "<": FilterOperator.LT,
    "≤": FilterOperator.LTE,
    "after": FilterOperator.GT,
    "before": FilterOperator.LT,
    "in": FilterOperator.IN,
    "not in": FilterOperator.NIN,
    "contains": FilterOperator.TEXT_MATCH,
    "empty": FilterOperator.IS_EMPTY,
}


class Comparison(BaseModel):
    """OpenAI's comparison filter."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str
    value: Scalar | list[Scalar]


class Compound(BaseModel):
    """OpenAI's compound filter."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["and", "or"]
    filters: list["OpenAIFilter"] = Field(min_length=1, max_length=100)


OpenAIFilter = Annotated[Comparison | Compound, Field(discriminator="type")]


def from_openai(asked: Comparison | Compound | None) -> MetadataFilters | None:
    """Translate OpenAI's filter; None stays None."""
    if asked is None:
        return None
    found = _from_openai(asked)
    return found if isinstance(found, MetadataFilters) else MetadataFilters(filters=[found])


def _from_openai(asked: Comparison | Compound) -> MetadataFilter | MetadataFilters:
    if isinstance(asked, Comparison):
        return MetadataFilter(
            key=asked.key,
            value=_of_one_type(asked),
            operator=_OPENAI[asked.type],
        )
    return MetadataFilters(
        filters=[_from_openai(each) for each in asked.filters],
        condition=FilterCondition(asked.type),
    )


def _of_one_type(asked: Comparison) -> Any:
    """Return a comparison's value; LlamaIndex has no lists of texts and numbers together."""
    if not isinstance(asked.value, list) or len({*map(type, asked.value)}) < 2:
        return asked.value
    if any(isinstance(value, str) for value in asked.value):
        raise RequestError(
            400,
            f"the values for {asked.key!r} are texts and numbers: send one kind of them",
            code="invalid_value",
            param="filters",
        )
    try:
        return [float(value) for value in asked.value]
    except OverflowError:
        raise RequestError(
            400, f"a number for {asked.key!r} is too large", code="invalid_value", param="filters"
        ) from None


class Condition(BaseModel):
    """Dify's condition; several names: one of them is to be like this."""

    name: list[str] = Field(min_length=1, max_length=20)
    comparison_operator: str
    value: Scalar | None = None


class Conditions(BaseModel):
    """Dify's ``metadata_condition``."""

    logical_operator: Literal["and", "or"] = "and"
    conditions: list[Condition] = Field(max_length=100)


def from_dify(asked: Conditions | None) -> MetadataFilters | None:
    """Translate Dify's conditions; none stay None.

    Raises
    ------
    RequestError
        For an operator that nothing here can do.
    """
    if asked is None or not asked.conditions:
        return None
    return MetadataFilters(
        filters=[_from_condition(each) for each in asked.conditions],
        condition=FilterCondition(asked.logical_operator),
    )


def _from_condition(asked: Condition) -> MetadataFilters:
    operator = _DIFY.get(asked.comparison_operator)
    if operator is None:
        raise RequestError(
            400,
            f"comparison_operator {asked.comparison_operator!r} is not supported: "
            f"use one of {', '.join(_DIFY)}",
            param="metadata_condition",
        )
    value = asked.value
    # Dify's values are single: a list of them is written with commas.
    if operator in {FilterOperator.IN, FilterOperator.NIN}:
        value = [part.strip() for part in str(value).split(",")]  # type: ignore[assignment]
    return MetadataFilters(
        filters=[MetadataFilter(key=name, value=value, operator=operator) for name in asked.name],
        condition=FilterCondition.OR,
    )
