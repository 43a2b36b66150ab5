"""Find contexts: search, order anew, leave out, join with neighbours. A LlamaIndex retriever."""

import asyncio
from collections.abc import Iterator, Sequence

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.config.sections import RetrievalSection
from rag_app.embedding.base import Embedder
from rag_app.milvus.collection import CollectionStore
from rag_app.questions import check_question
from rag_app.retrieval.expansion import expand
from rag_app.retrieval.filter_text import parse_filter
from rag_app.retrieval.reranker import build_reranker
from rag_app.search.modes import Asked, find_mode

TOGETHER = 100
"""Questions whose nodes are held at the same time, however many are asked."""


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


class Retriever(BaseRetriever):
    """Retrieves as ``[retrieval]`` says: nodes best first, with scores.

    Parameters
    ----------
    embedder
        The collection's own; None where ``retrieval.mode`` needs no vectors.
    reranker
        Orders ``retrieval.candidates`` nodes anew, of which ``similarity_top_k`` stay.
    filters
        What rows must be like besides ``retrieval.filter``.
    """

    def __init__(
        self,
        store: CollectionStore,
        embedder: Embedder | None,
        section: RetrievalSection,
        reranker: BaseNodePostprocessor | None = None,
        filters: MetadataFilters | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._embedder = embedder
        self._section = section
        self._needs_vectors = find_mode(section.mode).needs_vectors
        self._reranker = reranker
        fetched = section.candidates if reranker else section.similarity_top_k
        self._search = section.model_copy(update={"similarity_top_k": fetched})
        both = [each for each in (parse_filter(section.filter), filters) if each is not None]
        self._filters = MetadataFilters(filters=both) if len(both) > 1 else next(iter(both), None)

    def retrieve_each(self, questions: Sequence[str]) -> Iterator[list[NodeWithScore]]:
        """Retrieve for many questions, `TOGETHER` embedded and searched at a time.

        Raises
        ------
        ConfigError
            If ``retrieval.mode`` needs words, and the collection has none.
        VectorStoreError
            If Milvus fails.
        ServiceError
            If the reranker's server fails.
        """
        for start in range(0, len(questions), TOGETHER):
            some = questions[start : start + TOGETHER]
            vectors: Sequence[Sequence[float]] = ()
            if self._embedder is not None and self._needs_vectors:
                vectors = self._embedder.embed_queries(some)
            for question, nodes in zip(some, self._find(Asked(some, vectors)), strict=True):
                yield self._refine(QueryBundle(question), nodes)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        check_question(query_bundle.query_str)
        vectors = []
        if self._embedder is not None and self._needs_vectors:
            # Left in the bundle, as LlamaIndex's own retriever does: what answers may need it, too.
            query_bundle.embedding = (
                query_bundle.embedding
                or self._embedder.get_agg_embedding_from_queries(query_bundle.embedding_strs)
            )
            vectors = [query_bundle.embedding]
        (nodes,) = self._find(Asked([query_bundle.query_str], vectors))
        return self._refine(query_bundle, nodes)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _find(self, asked: Asked) -> list[list[NodeWithScore]]:
        return self._store.find(asked, self._search, filters=self._filters, each_once=True)

    def _refine(self, query: QueryBundle, nodes: list[NodeWithScore]) -> list[NodeWithScore]:
        section = self._section
        if self._reranker is not None:
            nodes = self._reranker.postprocess_nodes(nodes, query)[: section.similarity_top_k]
        if section.min_score is not None:
            nodes = [node for node in nodes if (node.score or 0.0) >= section.min_score]
        if section.expand:
            nodes = expand(nodes, section.expand, self._store.nodes_in)
        return nodes


def make_retriever(
    store: CollectionStore, embedder: Embedder | None, section: RetrievalSection
) -> Retriever:
    """Return the configured retriever, with its reranker.

    Raises
    ------
    ModelUnavailableError
        If the reranker's model is not here and cannot be fetched.
    """
    reranker = build_reranker(section.reranker, section.similarity_top_k)
    return Retriever(store, embedder, section, reranker)
