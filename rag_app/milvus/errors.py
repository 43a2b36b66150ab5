"""Failures of Milvus → errors that say what to do."""

from pymilvus.exceptions import MilvusException

from rag_app.errors import VectorStoreError


def as_store_error(error: MilvusException, uri: str) -> VectorStoreError:
    """Turn a failure of Milvus into one that says what to do."""
    message = " ".join(error.message.split())
    if "illegal connection params" in message or "UNAVAILABLE" in message:
        return VectorStoreError(
            f"the Milvus server at {uri} cannot be reached: {message}",
            "start it, or set vector_store.uri; without a server: a path that ends in .db",
        )
    if "auth" in message.lower():
        return VectorStoreError(
            f"the Milvus server at {uri} refuses the token: {message}",
            "set RAG_APP_VECTOR_STORE__TOKEN=user:password",
        )
    return VectorStoreError(f"Milvus ({uri}) failed: {message}", "see rag-app doctor")
