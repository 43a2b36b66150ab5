"""Find contexts: a LlamaIndex retriever over the open collection."""

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.node_parser import SentenceSplitter

from rag_app.collection import CollectionStore
from rag_app.config import RetrievalSection
from rag_app.embeddings import Embedder
from rag_app.filter_text import parse_filter


def make_index(store: CollectionStore, embedder: Embedder) -> VectorStoreIndex:
    """Return LlamaIndex's index over a collection, for apps that build on it."""
    # For what an app inserts. The default reads the global Settings, and loads OpenAI's tokenizer
    # for them (0.2 to 0.9 s).
    splitter = SentenceSplitter(
        chunk_size=embedder.content_tokens,
        chunk_overlap=embedder.content_tokens // 10,
        tokenizer=embedder.tokenize,
    )
    return VectorStoreIndex.from_vector_store(
        store, embed_model=embedder, transformations=[splitter]
    )


def make_retriever(
    store: CollectionStore, embedder: Embedder, section: RetrievalSection
) -> BaseRetriever:
    """Return the retriever that ``retrieval.mode`` names: nodes best first, sync and async.

    Only rows that ``retrieval.filter`` lets through are searched.
    """
    return make_index(store, embedder).as_retriever(
        similarity_top_k=section.similarity_top_k, filters=parse_filter(section.filter)
    )
