"""The words of rows in Milvus: the fields that hold them, and the BM25 index over them."""

from typing import Any

from pymilvus import DataType, Function, FunctionType, MilvusClient

from rag_app.milvus.backend import Backend

TERMS_FIELD = "terms"
"""What `rag_app.search.terms.TermAnalyzer` makes of a node's title and text."""

WORDS_FIELD = "words"
"""The sparse vector that Milvus makes of the terms."""

MAX_BYTES = 65_535
"""Of a row's terms. Pairs of Thai or Chinese characters are more bytes than the text itself."""

BM25 = {"bm25_k1": 0.9, "bm25_b": 0.4}
"""How much a term's repetition and a node's length count: Anserini's defaults for passages. On the
labelled sets they were as good as Milvus's own (1.2, 0.75) or better by up to .04 at hit@2."""


def add_fields(schema: Any, backend: Backend) -> None:
    """Add the terms, and the sparse vectors that Milvus makes of them when a row is written.

    The terms are separated by spaces. Lite has no tokenizer for just that; its standard one, words
    as they are, does the same to them.
    """
    schema.add_field(
        TERMS_FIELD,
        DataType.VARCHAR,
        max_length=MAX_BYTES,
        enable_analyzer=True,
        analyzer_params={"tokenizer": "standard" if backend.is_lite else "whitespace"},
    )
    schema.add_field(WORDS_FIELD, DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=[TERMS_FIELD],
            output_field_names=[WORDS_FIELD],
        )
    )


def fit(terms: str) -> str:
    """Leave out the last terms beyond what a row can hold."""
    encoded = terms.encode()
    if len(encoded) <= MAX_BYTES:
        return terms
    # At a space, which is no part of another character's bytes.
    return encoded[: max(0, encoded.rfind(b" ", 0, MAX_BYTES + 1))].decode()


def has_words(client: MilvusClient, collection: str, timeout: float) -> bool:
    """Whether a collection was made with the fields above."""
    described = client.describe_collection(collection, timeout=timeout)
    return any(field["name"] == WORDS_FIELD for field in described["fields"])


def ensure_index(
    client: MilvusClient, collection: str, *, backend: Backend, timeout: float
) -> None:
    """Create the index over the words of a released collection, if it is not there."""
    if client.list_indexes(collection, field_name=WORDS_FIELD, timeout=timeout):
        return
    index = client.prepare_index_params()
    index.add_index(
        WORDS_FIELD,
        index_type="SPARSE_INVERTED_INDEX",
        index_name=WORDS_FIELD,
        metric_type="BM25",
        params={"params": BM25} if backend.nests_params else BM25,
    )
    client.create_index(collection, index, timeout=timeout)
