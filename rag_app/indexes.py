"""The table of Milvus's index types over dense vectors: their parameters, and who builds them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IndexType:
    """One of Milvus's index types.

    Attributes
    ----------
    params
        Names of the parameters it is built with (Milvus docs, "In-memory Index").
    search_params
        Names of the parameters it is searched with.
    lite
        Whether Milvus Lite 3.2 really builds it. Lite accepts any name, and cannot load the
        collection after a restart if it is another one.
    defaults
        What to build with where the user sets nothing: Milvus before 2.5 asks for these.
    """

    params: tuple[str, ...] = ()
    search_params: tuple[str, ...] = ()
    lite: bool = False
    defaults: tuple[tuple[str, int], ...] = ()


_HNSW_DEFAULTS = (("M", 16), ("efConstruction", 200))
_IVF_DEFAULTS = (("nlist", 128),)

INDEX_TYPES: dict[str, IndexType] = {
    "FLAT": IndexType(lite=True),
    "IVF_FLAT": IndexType(("nlist",), ("nprobe",), lite=True, defaults=_IVF_DEFAULTS),
    "IVF_SQ8": IndexType(("nlist",), ("nprobe",), lite=True, defaults=_IVF_DEFAULTS),
    "IVF_PQ": IndexType(
        ("nlist", "m", "nbits"), ("nprobe",), defaults=(*_IVF_DEFAULTS, ("m", 8), ("nbits", 8))
    ),
    "HNSW": IndexType(("M", "efConstruction"), ("ef",), lite=True, defaults=_HNSW_DEFAULTS),
    "HNSW_SQ": IndexType(
        ("M", "efConstruction", "sq_type", "refine", "refine_type"),
        ("ef", "refine_k"),
        lite=True,
        defaults=_HNSW_DEFAULTS,
    ),
    "SCANN": IndexType(("nlist", "with_raw_data"), ("nprobe", "reorder_k"), defaults=_IVF_DEFAULTS),
    "DISKANN": IndexType((), ("search_list",)),
    "AUTOINDEX": IndexType((), ("level", "ef"), lite=True),
}

METRICS = ("COSINE", "IP", "L2")
