"""All rows of a Milvus collection that an expression means, page by page."""

from collections.abc import Iterator, Sequence
from typing import Any

from pymilvus import MilvusClient

from rag_app.milvus.literals import quoted

PAGE = 1000


def pages(
    client: MilvusClient,
    collection: str,
    expression: str,
    fields: Sequence[str],
    *,
    size: int = PAGE,
    timeout: float | None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of rows in the order of their ids, each with its id and these fields."""
    iterator = client.query_iterator(
        collection,
        filter=expression,
        output_fields=list(fields),
        batch_size=size,
        consistency_level="Strong",  # with all that was just written
        timeout=timeout,
    )
    try:
        while page := iterator.next():
            # It goes on from the last id, which it pastes into the expression as it stands.
            iterator._next_id = quoted(page[-1]["id"])[1:-1]
            yield page
    finally:
        iterator.close()
