"""The table of Milvus's index types over dense vectors, and what is wrong with a choice from it.

Ranges and defaults are those of the Milvus docs, each with the page it is from; `milvus_lite_files`
reads back from Milvus Lite's files that they were used. Nothing here connects to anything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Value = int | float | str | bool

METRICS = ("COSINE", "IP", "L2")
"""How vectors can be compared (Milvus docs, "Similarity Metrics")."""

INT_MAX = 2**31 - 1

_MEMORY = 'Milvus docs, "In-memory Index"'
_DISK = 'Milvus docs, "On-disk Index"'
_GPU = 'Milvus docs, "GPU Index"'
_SQ = 'Milvus docs, "HNSW_SQ"'
_PQ = 'Milvus docs, "IVF_PQ"'
_LITE = "the default of Milvus Lite 3.2"


@dataclass(frozen=True)
class Parameter:
    """A parameter of an index, to build or to search with.

    Attributes
    ----------
    low, high
        Range of a number, both ends included.
    choices
        All values that a text can have; empty for other kinds.
    default
        What is sent where the user sets nothing; None: nothing is sent, the backend decides.
    top_k
        Whether it must be at least the number of neighbours that are asked for.
    lite
        Whether Milvus Lite 3.2 reads it; it ignores what it does not know.
    source
        Where range and default are from.
    """

    name: str
    kind: Literal["int", "float", "text", "bool"] = "int"
    low: float = 1
    high: float = INT_MAX
    choices: tuple[str, ...] = ()
    default: Value | None = None
    top_k: bool = False
    lite: bool = True
    source: str = _MEMORY

    @property
    def takes(self) -> str:
        """What it can be, in words."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "text":
            return " or ".join(f'"{choice}"' for choice in self.choices)
        number = "a whole number" if self.kind == "int" else "a number"
        return f"{number} from {self.low:g}" + (
            "" if self.high >= INT_MAX else f" to {self.high:g}"
        )

    def accepts(self, value: Any) -> bool:
        """Whether a value has the right kind and lies in the range."""
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "text":
            return value in self.choices
        kinds = int if self.kind == "int" else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def read(self, value: Any) -> Value:
        """Read a value that Milvus gives back as text."""
        if self.kind == "bool":
            return str(value).lower() == "true"
        if self.kind == "text":
            return str(value)
        return int(value) if self.kind == "int" else float(value)


@dataclass(frozen=True)
class IndexType:
    """One of Milvus's index types.

    Attributes
    ----------
    params, search_params
        What it is built and searched with.
    metrics
        What it compares vectors by.
    lite
        Whether Milvus Lite 3.2 really builds it. Lite accepts any name, and cannot load the
        collection after a restart if it is another one.
    since
        First version of the Milvus server that builds it (Milvus docs, "Release Notes").
    needs
        What a server must have been built and set up with beyond its version; empty: nothing.
    most_top_k
        Most neighbours that a search can ask for.
    """

    params: tuple[Parameter, ...] = ()
    search_params: tuple[Parameter, ...] = ()
    metrics: tuple[str, ...] = METRICS
    lite: bool = False
    since: tuple[int, int] = (2, 3)
    needs: Literal["", "a GPU", "DiskANN"] = ""
    most_top_k: int = 16_384


_M = Parameter("M", low=2, high=2048, default=16, source=f"{_MEMORY}; {_LITE}")
_EF_CONSTRUCTION = Parameter("efConstruction", default=200, source=f"{_MEMORY}; {_LITE}")
_EF = Parameter("ef", default=64, top_k=True, source=f"{_MEMORY}; {_LITE}")
_NLIST = Parameter("nlist", high=65_536, default=128)
_NPROBE = Parameter("nprobe", high=65_536, default=8)
_PQ_M = Parameter("m", high=65_536, default=8, source=f"{_PQ}; divides the dimension")
_NBITS = Parameter("nbits", high=24, default=8, source=_PQ)
_CACHE = Parameter("cache_dataset_on_device", kind="bool", default=False, source=_GPU)
_ITERATIONS = {"low": 0, "source": _GPU}

INDEX_TYPES: dict[str, IndexType] = {
    "FLAT": IndexType(lite=True),
    "IVF_FLAT": IndexType((_NLIST,), (_NPROBE,), lite=True),
    "IVF_SQ8": IndexType((_NLIST,), (_NPROBE,), lite=True),
    "IVF_PQ": IndexType((_NLIST, _PQ_M, _NBITS), (_NPROBE,)),
    "HNSW": IndexType((_M, _EF_CONSTRUCTION), (_EF,), lite=True),
    "HNSW_SQ": IndexType(
        (
            _M,
            _EF_CONSTRUCTION,
            Parameter(
                *("sq_type", "text"),
                choices=("SQ6", "SQ8", "BF16", "FP16"),
                lite=False,  # always SQ8
                source=_SQ,
            ),
            Parameter("refine", "bool", lite=False, source=_SQ),
            Parameter(
                *("refine_type", "text"),
                choices=("SQ6", "SQ8", "BF16", "FP16", "FP32"),
                lite=False,
                source=_SQ,
            ),
        ),
        (_EF, Parameter("refine_k", "float", lite=False, source=_SQ)),
        lite=True,
        since=(2, 5),
    ),
    "SCANN": IndexType(
        (_NLIST, Parameter("with_raw_data", "bool", default=True)),
        (_NPROBE, Parameter("reorder_k", top_k=True)),
    ),
    "DISKANN": IndexType(
        search_params=(Parameter("search_list", default=16, top_k=True, source=_DISK),),
        since=(2, 2),
        needs="DiskANN",
    ),
    # HNSW on Milvus Lite and, unless its administrator says otherwise, on a server.
    "AUTOINDEX": IndexType(search_params=(_EF,), lite=True),
    "GPU_CAGRA": IndexType(
        (
            Parameter("intermediate_graph_degree", default=128, source=_GPU),
            Parameter("graph_degree", default=64, source=_GPU),
            Parameter(
                *("build_algo", "text"),
                choices=("IVF_PQ", "NN_DESCENT"),
                default="IVF_PQ",
                source=_GPU,
            ),
            _CACHE,
        ),
        (
            Parameter("itopk_size", top_k=True, source=_GPU),
            Parameter("search_width", source=_GPU),
            Parameter("min_iterations", **_ITERATIONS),
            Parameter("max_iterations", **_ITERATIONS),
            Parameter("team_size", high=32, **_ITERATIONS),
        ),
        metrics=("IP", "L2"),
        since=(2, 4),
        needs="a GPU",
        most_top_k=1024,
    ),
    "GPU_IVF_FLAT": IndexType(
        (_NLIST, _CACHE), (_NPROBE,), metrics=("IP", "L2"), needs="a GPU", most_top_k=2048
    ),
    "GPU_IVF_PQ": IndexType(
        (_NLIST, Parameter("m", low=0, default=0, source=_GPU), _NBITS, _CACHE),
        (_NPROBE,),
        metrics=("IP", "L2"),
        needs="a GPU",
        most_top_k=1024,
    ),
    "GPU_BRUTE_FORCE": IndexType(metrics=("IP", "L2"), since=(2, 4), needs="a GPU"),
}


@dataclass(frozen=True)
class Index:
    """An index, built or to be built: type, metric, and what it is built with."""

    type: str
    metric: str
    params: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.type}({params}) by {self.metric}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
        return {"type": self.type, "metric": self.metric, "params": dict(self.params)}

    def changes(self, other: "Index") -> tuple[str, ...]:
        """Say what differs in another one, e.g. "type HNSW → FLAT"."""
        ours, theirs = ({"type": i.type, "metric": i.metric, **i.params} for i in (self, other))
        return tuple(
            f"{name} {ours.get(name, 'none')} → {theirs.get(name, 'none')}"
            for name in {**ours, **theirs}
            if ours.get(name) != theirs.get(name)
        )

    @classmethod
    def read(cls, type_: str, metric: str, described: Mapping[str, Any]) -> "Index":
        """Make an index of what Milvus tells of it: text where the table has numbers."""
        known = INDEX_TYPES[type_].params if type_ in INDEX_TYPES else ()
        params = {
            param.name: param.read(described[param.name])
            for param in known
            if param.name in described
        }
        return cls(type_, metric.upper(), params)


@dataclass(frozen=True)
class Fault:
    """Why a choice will not work: which key of ``[index]`` is wrong, why, and what will do."""

    key: str
    reason: str
    remedy: str


def lite_types() -> tuple[str, ...]:
    """Return the types that Milvus Lite builds."""
    return tuple(name for name, kind in INDEX_TYPES.items() if kind.lite)


def build_params(type_: str, given: Mapping[str, Any], *, lite: bool) -> dict[str, Value]:
    """Return all parameters to build with: those given, and defaults for the others."""
    known = (param for param in INDEX_TYPES[type_].params if param.lite or not lite)
    return _complete(known, given)


def search_params(index: Index, given: Mapping[str, Any], top_k: int) -> dict[str, Value]:
    """Return all parameters to search an index with; what its type does not know is left out.

    A value below ``top_k`` where Milvus refuses that is raised to ``top_k``: the legs of a fused
    search fetch more than ``retrieval.similarity_top_k``. At most all clusters are looked into.
    """
    if index.type not in INDEX_TYPES:  # a name that another program gave to Milvus Lite
        return {}
    known = INDEX_TYPES[index.type].search_params
    complete = _complete(known, given)
    for param in known:
        if param.top_k and param.name in complete:
            complete[param.name] = max(int(complete[param.name]), top_k)
    if "nprobe" in complete and "nlist" in index.params:
        complete["nprobe"] = min(int(complete["nprobe"]), int(index.params["nlist"]))
    return complete


def _complete(known: Any, given: Mapping[str, Any]) -> dict[str, Value]:
    values = {param.name: given.get(param.name, param.default) for param in known}
    return {name: value for name, value in values.items() if value is not None}


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
    yield from _relation_faults(kind, _complete(kind.params, params), searched, top_k)


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
        values = {**params, **searched}
        low, high = values.get(small), values.get(large)
        if not _are_numbers(low, high) or (large == "max_iterations" and high == 0):
            continue
        if low > high or (strict and low == high):
            key = "params" if small in params else "search_params"
            yield Fault(
                key,
                f"has {small} = {low}, {'not less' if strict else 'more'} than {large} = {high}",
                f"set index.{key}.{small} to {'less than' if strict else 'at most'} {high}",
            )


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def dimension_fault(type_: str, params: Mapping[str, Any], dimension: int) -> Fault | None:
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
