"""``[index]``: which index is over the vectors."""

from pydantic import field_validator

from rag_app.config.base import Section
from rag_app.config.index_types import INDEX_TYPES, METRICS


class IndexSection(Section):
    """The index over the vectors."""

    type: str = "AUTOINDEX"
    """One of Milvus's index types, e.g. FLAT, IVF_FLAT, HNSW; "AUTOINDEX" leaves it to Milvus."""
    metric: str = "COSINE"
    """How vectors are compared: COSINE, IP or L2."""
    params: dict[str, int | float | str | bool] = {}
    """Parameters to build with, e.g. {M = 16, efConstruction = 200} for HNSW; nlist, if it is not
    among them, follows the number of rows."""
    search_params: dict[str, int | float | str | bool] = {}
    """Parameters to search with, e.g. {ef = 64} for HNSW; nprobe, ef and search_list, if they are
    not among them, are chosen for the rows, so that a search finds about .95 of the nearest."""

    @field_validator("type")
    @classmethod
    def _type_is_known(cls, value: str) -> str:
        if value not in INDEX_TYPES:
            raise ValueError(f"not an index type; use one of {', '.join(INDEX_TYPES)}")
        return value

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        if value not in METRICS:
            raise ValueError(f"not a metric; use one of {', '.join(METRICS)}")
        return value
