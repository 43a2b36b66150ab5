"""The table of Milvus's index types over dense vectors: parameters, metrics, who builds them.

Ranges and defaults are those of the Milvus docs, each with the page it is from; `milvus_lite_files`
reads back from Milvus Lite's files that they were used. Nothing here connects to anything.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rag_app.registry import Registry

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
    by_rows
        Whether, where the user sets nothing, it is chosen for the rows that there are
        (`rag_app.index.choose`); the default is for a collection of which nothing is known yet.
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
    by_rows: bool = False
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
_EF = Parameter("ef", default=64, by_rows=True, top_k=True, source=f"{_MEMORY}; {_LITE}")
_NLIST = Parameter("nlist", high=65_536, default=128, by_rows=True)
_NPROBE = Parameter("nprobe", high=65_536, default=8, by_rows=True)
_PQ_M = Parameter("m", high=65_536, default=8, source=f"{_PQ}; divides the dimension")
_NBITS = Parameter("nbits", high=24, default=8, source=_PQ)
_CACHE = Parameter("cache_dataset_on_device", kind="bool", default=False, source=_GPU)

_OWN = {
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
                "sq_type",
                "text",
                choices=("SQ6", "SQ8", "BF16", "FP16"),
                lite=False,  # always SQ8
                source=_SQ,
            ),
            Parameter("refine", "bool", lite=False, source=_SQ),
            Parameter(
                "refine_type",
                "text",
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
        search_params=(
            Parameter("search_list", default=16, by_rows=True, top_k=True, source=_DISK),
        ),
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
                "build_algo",
                "text",
                choices=("IVF_PQ", "NN_DESCENT"),
                default="IVF_PQ",
                source=_GPU,
            ),
            _CACHE,
        ),
        (
            Parameter("itopk_size", top_k=True, source=_GPU),
            Parameter("search_width", source=_GPU),
            Parameter("min_iterations", low=0, source=_GPU),
            Parameter("max_iterations", low=0, source=_GPU),
            Parameter("team_size", low=0, high=32, source=_GPU),
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
INDEX_TYPES: Registry[IndexType] = Registry(
    "rag_app.index_types",
    "index type",
    _OWN,
    takes="rag_app.config.index_types.IndexType",
    fits=lambda found: isinstance(found, IndexType),
)
"""By Milvus's name."""


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

    def changes(self, wanted: "Index") -> tuple[str, ...]:
        """Say what a wanted one asks for that this one has not, e.g. "type HNSW → FLAT".

        What it does not ask for may be anything.
        """
        ours, theirs = ({"type": i.type, "metric": i.metric, **i.params} for i in (self, wanted))
        return tuple(
            f"{name} {ours.get(name, 'none')} → {value}"
            for name, value in theirs.items()
            if ours.get(name) != value
        )

    def for_rows(self, rows: int) -> "Index":
        """Return it with the build parameters that follow the number of rows and are not set.

        There are ``4·√rows`` clusters (``nlist``), as the Milvus docs advise ("IVF_FLAT"), and not
        more than rows; of an empty collection nothing is known, and it has Milvus's default.
        """
        known = INDEX_TYPES[self.type].params if self.type in INDEX_TYPES else ()
        clusters = max(1, min(rows, round(4 * math.sqrt(rows)), int(_NLIST.high)))
        missing = [param for param in known if param.by_rows and param.name not in self.params]
        values: dict[str, Value] = {
            param.name: clusters if rows or param.default is None else param.default
            for param in missing
        }
        return Index(self.type, self.metric, {**values, **self.params})

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


def lite_types() -> tuple[str, ...]:
    """Return the types that Milvus Lite builds."""
    return tuple(name for name, kind in INDEX_TYPES.items() if kind.lite)


def build_params(type_: str, given: Mapping[str, Any], *, lite: bool) -> dict[str, Value]:
    """Return the parameters to build with: those given, and defaults for the others.

    What follows the number of rows and is not given is left out: see `Index.for_rows`.
    """
    known = (param for param in INDEX_TYPES[type_].params if param.lite or not lite)
    return complete((param for param in known if param.name in given or not param.by_rows), given)


def chosen_by_rows(type_: str, given: Mapping[str, Any]) -> list[Parameter]:
    """Return the search parameters that follow the rows, because they are not given."""
    kind = INDEX_TYPES.get(type_, IndexType())
    return [each for each in kind.search_params if each.by_rows and each.name not in given]


def search_params(index: Index, given: Mapping[str, Any], top_k: int) -> dict[str, Value]:
    """Return all parameters to search an index with; what its type does not know is left out.

    A value below ``top_k`` where Milvus refuses that is raised to ``top_k``: the legs of a fused
    search fetch more than ``retrieval.similarity_top_k``. At most all clusters are looked into.
    """
    if index.type not in INDEX_TYPES:  # a name that another program gave to Milvus Lite
        return {}
    known = INDEX_TYPES[index.type].search_params
    values = complete(known, given)
    for param in known:
        if param.top_k and param.name in values:
            values[param.name] = max(int(values[param.name]), top_k)
    if "nprobe" in values and "nlist" in index.params:
        values["nprobe"] = min(int(values["nprobe"]), int(index.params["nlist"]))
    return values


def complete(known: Iterable[Parameter], given: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values of parameters: those given, else their defaults, where they have one."""
    values = {param.name: given.get(param.name, param.default) for param in known}
    return {name: value for name, value in values.items() if value is not None}
