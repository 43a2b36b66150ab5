"""Collections that another LlamaIndex program made: told apart, and opened to be searched only.

LlamaIndex's `MilvusVectorStore` keeps a node as rag_app does: its text, its vector, and the rest as
JSON. What it does not keep is which model embedded it; that is asked for in the configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import DataType, FunctionType

from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError
from rag_app.milvus.search import VECTOR_FIELD

_NEEDED = {
    "id": DataType.VARCHAR,
    "doc_id": DataType.VARCHAR,
    "text": DataType.VARCHAR,
    VECTOR_FIELD: DataType.FLOAT_VECTOR,
}
"""What `MilvusVectorStore` calls its fields, unless it is told otherwise."""


@dataclass(frozen=True)
class Foreign:
    """What is to be known of such a collection.

    Attributes
    ----------
    dimension
        Of its vectors.
    words
        The field that Milvus counts words in (``enable_sparse`` with its BM25 function); empty:
        there is none.
    """

    dimension: int
    words: str = ""


def check_foreign(config: Config, *, may_search: bool) -> None:
    """Refuse a collection of another program where it cannot be used, or is not known enough.

    Parameters
    ----------
    may_search
        Whether no more is wanted than to search it.

    Raises
    ------
    CollectionMismatchError
        Naming the key that is missing.
    """
    section, key = config.vector_store, "vector_store.embedded_by"
    name, named = section.collection, config.vector_store.embedded_by
    what = f"the collection {name!r} in {section.uri} was not made by rag_app"
    other = f"use another collection: --collection {name}_2 (vector_store.collection)"
    if not may_search and named:
        raise CollectionMismatchError(f"{what}, and is only searched", other)
    if not may_search:
        raise CollectionMismatchError(
            what, f"{other}; which there are: rag-app collections list; to search it, set {key}"
        )
    if not named:
        raise CollectionMismatchError(
            f"{what}, and does not tell which model embedded it",
            f"set {key} to that model, and embedding.model to the same; or {other}",
        )
    if named != config.embedding.model:
        raise CollectionMismatchError(
            f"{config.said(key)} embedded the collection {name!r}, and "
            f"{config.said('embedding.model')} embeds the questions",
            f"set embedding.model to the same model; or {other}",
        )


def read_foreign(config: Config, described: Mapping[str, Any]) -> Foreign:
    """Find out what a collection of LlamaIndex's own store holds.

    Raises
    ------
    CollectionMismatchError
        If it has not the fields of one.
    """
    fields = {field["name"]: field for field in described["fields"]}
    section = config.vector_store
    for name, type_ in _NEEDED.items():
        if name not in fields or fields[name]["type"] != type_:
            raise CollectionMismatchError(
                f"the collection {section.collection!r} in {section.uri} has no field {name!r} of "
                f"type {type_.name}, as LlamaIndex's MilvusVectorStore makes it",
                "only collections with its usual names of fields can be searched; see what it has: "
                f"rag-app collections show {section.collection}",
            )
    # Sparse vectors of a model of its own could not be made of a question here.
    words = [
        function["output_field_names"][0]
        for function in described.get("functions", ())
        if function["type"] == FunctionType.BM25
    ]
    return Foreign(int(fields[VECTOR_FIELD]["params"]["dim"]), next(iter(words), ""))
