"""A collection as a Parquet file, for pandas, other programs and other backends; and back.

Each row is a node: ``id``, ``doc_id``, ``text``, ``metadata`` (JSON), ``vector`` (float32) and
``node``, LlamaIndex's JSON of the rest. What made them is in the file's own metadata.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.milvus.made_by import MADE_BY, differences
from rag_app.milvus.store import create_store, find_store, open_store

BATCH = 1000
"""Rows of a row group: what is held in memory at a time."""

Progress = Callable[[int, int], None]


def export_collection(config: Config, file: Path, progress: Progress | None = None) -> int:
    """Write the configured collection into a Parquet file; return how many rows.

    Raises
    ------
    InputError
        If there is no such collection, another program made it, or the file cannot be written.
    VectorStoreError
        If Milvus fails.
    """
    import pyarrow as pa  # 0.2 s
    import pyarrow.parquet as pq

    store = open_store(config)
    described = store.client.describe_collection(store.collection_name)
    made = json.loads(described["properties"][MADE_BY])
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "doc_id", "text", "metadata", "node")),
            ("vector", pa.list_(pa.float32(), int(made["dimension"]))),
        ],
        metadata={MADE_BY: json.dumps(made)},
    )
    rows, total = 0, store.count()
    unfinished = file.with_name(f"{file.name}.part")
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for nodes in store.pages_of_nodes(vectors=True):
                writer.write_table(pa.Table.from_pylist(list(map(_row, nodes)), schema=schema))
                rows += len(nodes)
                if progress:
                    progress(rows, total)
        # As a whole: who reads it while it is written finds the former one.
        unfinished.replace(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error}", "name another file") from error
    return rows


def import_collection(config: Config, file: Path, progress: Progress | None = None) -> int:
    """Write a Parquet file's rows into the configured collection; return how many.

    The collection is made if it is not there. A row that is there is replaced: killed, the same
    call completes it.

    Raises
    ------
    InputError
        If the file is none of `export_collection`, or another configuration made it.
    CollectionMismatchError
        If another configuration made the collection.
    VectorStoreError
        If Milvus fails.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            made = json.loads((opened.schema_arrow.metadata or {})[MADE_BY.encode()])
            _check(config, file, made)
            total, rows = opened.metadata.num_rows, 0
            store = find_store(config, exact=True) or create_store(config, int(made["dimension"]))
            for batch in opened.iter_batches(BATCH):
                store.add([_node(row) for row in batch.to_pylist()])
                rows += len(batch)
                if progress:
                    progress(rows, total)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{file} is no exported collection: {error}", "rag-app export FILE writes one"
        ) from error
    store.settle(len(store.documents()))
    return rows


def _check(config: Config, file: Path, made: dict[str, Any]) -> None:
    for each in differences(config, made):
        if each.refuses:
            raise InputError(
                f"the rows in {file} were made with {each.key} = {each.made!r}, and the "
                f"configuration ({config.origin(each.key)}) says {each.wanted!r}",
                f"set {each.key} to that, and import; rag-app migrate changes it afterwards",
            )


def _row(node: TextNode) -> dict[str, Any]:
    told = node_to_metadata_dict(node, remove_text=True, text_field="text")
    return {
        "id": node.node_id,
        "doc_id": str(told["doc_id"]),
        "text": node.text,
        "metadata": json.dumps(node.metadata, ensure_ascii=False),
        "node": json.dumps({key: told[key] for key in ("_node_content", "_node_type")}),
        "vector": node.embedding,
    }


def _node(row: dict[str, Any]) -> TextNode:
    node = metadata_dict_to_node(json.loads(row["node"]), text=row["text"])
    if not isinstance(node, TextNode):
        raise ValueError(f"{row['id']} is no text")
    node.embedding = row["vector"]
    return node
