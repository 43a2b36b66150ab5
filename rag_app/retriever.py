"""Find contexts: a LlamaIndex retriever over the open collection."""

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding

from rag_app.collection import CollectionStore
from rag_app.config import RetrievalSection


def make_index(store: CollectionStore, embedder: BaseEmbedding) -> VectorStoreIndex:
    """Return LlamaIndex's index over a collection, for apps that build on it."""
    return VectorStoreIndex.from_vector_store(store, embed_model=embedder)


def make_retriever(
    store: CollectionStore, embedder: BaseEmbedding, section: RetrievalSection
) -> BaseRetriever:
    """Return the retriever that ``retrieval.mode`` names: nodes best first, sync and async."""
    return make_index(store, embedder).as_retriever(similarity_top_k=section.similarity_top_k)
