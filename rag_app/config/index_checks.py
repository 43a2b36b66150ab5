"""What is wrong with a choice of index, and what will do instead. Nothing here connects."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rag_app.config.index_types import INDEX_TYPES, IndexType, Parameter, complete, lite_types
from rag_app.config.sections import Config
from rag_app.errors import ConfigError


@dataclass(frozen=True)
class Fault:
    """Why a choice will not work: which key of ``[index]`` is wrong, why, and what will do."""

    key: str
    reason: str
    remedy: str


def faults(
    type_: str,
    metric: str,
    params: Mapping[str, Any],
    searched: Mapping[str, Any],
    *,
    top_k: int,
    lite: bool,
) -> Iterator[Fault]:
    """Yield what is wrong with an index, as far as it can be known before connecting."""
    kind = INDEX_TYPES[type_]
    if lite and (fault := lite_fault(type_)):
        yield fault
    if metric not in kind.metrics:
        able = [name for name, other in INDEX_TYPES.items() if metric in other.metrics]
        yield Fault(
            "metric",
            f"is not a metric of {type_}",
            f"set index.metric to {' or '.join(kind.metrics)} (of normalised vectors IP gives the "
            f"same order as COSINE), or index.type to one of {', '.join(able)}",
        )
    yield from _parameter_faults("params", type_, kind.params, params, lite=lite)
    yield from _parameter_faults("search_params", type_, kind.search_params, searched, lite=lite)
    # What follows the rows is not known before connecting: only what is said can contradict.
    fixed = (param for param in kind.params if not param.by_rows or param.name in params)
    yield from _relation_faults(kind, complete(fixed, params), searched, top_k)


def lite_fault(type_: str) -> Fault | None:
    """Tell that Milvus Lite does not build a type, if so."""
    if INDEX_TYPES[type_].lite:
        return None
    return Fault(
        "type",
        "is not built by Milvus Lite, which would accept the name and could not load the "
        "collection again",
        f"set index.type to one of {', '.join(lite_types())}, or vector_store.uri to a Milvus "
        'server ("http://host:19530")',
    )


def _parameter_faults(
    key: str, type_: str, known: tuple[Parameter, ...], given: Mapping[str, Any], *, lite: bool
) -> Iterator[Fault]:
    by_name = {param.name: param for param in known if param.lite or not lite}
    where = f"{type_} on Milvus Lite" if lite else type_
    for name, value in given.items():
        if name not in by_name:
            others = [f"{param.name} ({param.takes})" for param in by_name.values()]
            yield Fault(
                key,
                f"has {name!r}, which {where} does not know",
                f"use {', '.join(others)}" if others else f"leave index.{key} out",
            )
        elif not by_name[name].accepts(value):
            yield Fault(
                key,
                f"has {name} = {value!r}, which {where} does not take",
                f"set index.{key}.{name} to {by_name[name].takes}",
            )


def _relation_faults(
    kind: IndexType, params: Mapping[str, Any], searched: Mapping[str, Any], top_k: int
) -> Iterator[Fault]:
    """Yield what is right alone and wrong together."""
    for param in kind.search_params:
        value = searched.get(param.name)
        # What is no number of its range was told above.
        if param.top_k and param.accepts(value) and value is not None and value < top_k:
            yield Fault(
                "search_params",
                f"has {param.name} = {value}, less than retrieval.similarity_top_k = {top_k}",
                f"set index.search_params.{param.name} to at least {top_k}",
            )
    if top_k > kind.most_top_k:
        yield Fault(
            "type",
            f"finds at most {kind.most_top_k} neighbours, and retrieval.similarity_top_k is "
            f"{top_k}",
            f"set retrieval.similarity_top_k to at most {kind.most_top_k}",
        )
    for small, large, strict in (
        ("nprobe", "nlist", False),
        ("graph_degree", "intermediate_graph_degree", True),
        ("min_iterations", "max_iterations", False),
    ):
        # Of a pair one may be built with and the other searched with, as nlist and nprobe.
        values = {**params, **searched}
        low, high = _number(values.get(small)), _number(values.get(large))
        # 0 leaves the number of iterations to Milvus, and is no limit.
        if low is None or high is None or (large == "max_iterations" and high == 0):
            continue
        if low > high or (strict and low == high):
            key = "params" if small in params else "search_params"
            yield Fault(
                key,
                f"has {small} = {low}, {'not less' if strict else 'more'} than {large} = {high}",
                f"set index.{key}.{small} to {'less than' if strict else 'at most'} {high}",
            )


def _number(value: Any) -> int | None:
    # True and False are whole numbers to Python.
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def dimension_fault(params: Mapping[str, Any], dimension: int) -> Fault | None:
    """Tell whether vectors of this length cannot be cut into the ``m`` parts that are asked for."""
    parts = params.get("m", 0)
    if not parts or dimension % parts == 0:
        return None
    fitting = [str(m) for m in range(1, dimension + 1) if dimension % m == 0]
    return Fault(
        "params",
        f"has m = {parts}, which does not divide the vectors' dimension, {dimension}",
        f"set index.params.m to one of {', '.join(fitting)}",
    )


def server_fault(type_: str, version: str) -> Fault | None:
    """Tell why a Milvus server of this version ("v2.3.5-lite") does not build a type, if so."""
    kind = INDEX_TYPES[type_]
    able = [name for name in INDEX_TYPES if _is_built_by(INDEX_TYPES[name], version)]
    if _is_built_by(kind, version):
        return None
    reason = (
        f"needs {kind.needs}, which the server of the milvus Python package ({version}) does not "
        "have"
        if kind.needs and version.endswith("-lite")
        else f"is built by Milvus {kind.since[0]}.{kind.since[1]} and later, and the server is "
        f"{version}"
    )
    return Fault("type", reason, f"set index.type to one of {', '.join(able)}")


def _is_built_by(kind: IndexType, version: str) -> bool:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None:  # a build from source says "master-…": as new as can be
        return True
    found = (int(numbers[1]), int(numbers[2]))
    return found >= kind.since and not (kind.needs and version.endswith("-lite"))


def index_error(config: Config, fault: Fault, asked: str = "") -> ConfigError:
    """Say what is wrong with a key of ``[index]``: its value, where it is from, what will do.

    Parameters
    ----------
    asked
        An index type that ``--types`` names, in place of the configured one.
    """
    if asked and fault.key == "type":
        return ConfigError(f"index.type = {asked} (--types) {fault.reason}", fault.remedy)
    key = f"index.{fault.key}"
    is_table = fault.key in {"params", "search_params"}
    said = f"{key} ({config.origin(key)})" if is_table else config.said(key)
    return ConfigError(f"{said} {fault.reason}", fault.remedy)
