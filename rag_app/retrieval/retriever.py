"""Find contexts: search, order anew, leave out, join with neighbours. A LlamaIndex retriever."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.instrumentation.events.embedding import (
    EmbeddingEndEvent,
    EmbeddingStartEvent,
)
from llama_index.core.instrumentation.events.retrieval import (
    RetrievalEndEvent,
    RetrievalStartEvent,
)
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index_instrumentation import get_dispatcher

from rag_app.config.sections import RetrievalSection
from rag_app.embedding.base import Embedder
from rag_app.errors import CollectionChangedError
from rag_app.gathering import Gathering
from rag_app.milvus.collection import CollectionStore
from rag_app.questions import check_question
from rag_app.recipe import Remade
from rag_app.retrieval.decompose import cover, split_question
from rag_app.retrieval.expansion import PARENT, expand, join_parents
from rag_app.retrieval.filter_text import parse_filter
from rag_app.retrieval.reranker import build_reranker
from rag_app.runner import Runner
from rag_app.search.evidence import evidence_of, with_evidence
from rag_app.search.modes import Asked, find_mode

_DISPATCHER = get_dispatcher(__name__)

_MORE = 4
"""Times the nodes that are wanted, where they are pieces of something longer."""

_MOST = 16_384
"""Nodes of a search; Milvus's own limit."""

TOGETHER = 100
"""Questions whose nodes are held at the same time, however many are asked."""


SEARCHES = 16
"""Calls of Milvus that run at the same time, for questions that cannot share one: as many as the
steps of a `Runner`."""

Joined = tuple[str, Sequence[float] | None]
"""A question and its vector."""


def make_gathering() -> Gathering[Joined, list[NodeWithScore]]:
    """Return where the questions of many retrievers over one collection meet."""
    return Gathering("rag_app-search", SEARCHES)


class CollectionIndex(Remade, VectorStoreIndex):
    """LlamaIndex's `VectorStoreIndex` over a collection."""


def make_index(store: CollectionStore, embedder: Embedder) -> CollectionIndex:
    """Return LlamaIndex's index over a collection, for apps that build on it."""
    # For what an app inserts. The default reads the global Settings, and loads OpenAI's tokenizer
    # for them (0.2 to 0.9 s).
    splitter = SentenceSplitter(
        chunk_size=embedder.content_tokens,
        chunk_overlap=embedder.content_tokens // 10,
        tokenizer=embedder.tokenize,
    )
    # As `from_vector_store` does, whose type is its base's.
    return CollectionIndex(
        nodes=[],
        embed_model=embedder,
        storage_context=StorageContext.from_defaults(vector_store=store),
        transformations=[splitter],
        callback_manager=embedder.callback_manager,  # or it were the global Settings'
    )


class Retriever(Remade, BaseRetriever):
    """Retrieves as ``[retrieval]`` says: nodes best first, with scores.

    Parameters
    ----------
    embedder
        The collection's own; None where ``retrieval.mode`` needs no vectors.
    reranker
        Orders ``retrieval.candidates`` nodes anew, of which ``similarity_top_k`` stay.
    filters
        What rows must be like besides ``retrieval.filter``.
    runner
        Where blocking steps of asynchronous questions run; None: a runner of its own.
    embedder_of
        Tells what embeds questions for a collection that the store's name means by now; None: the
        same embedder.
    together
        Where questions that are asked at the same time meet, to be searched for in one call of
        Milvus; None: those of this retriever alone.
    """

    def __init__(
        self,
        store: CollectionStore,
        embedder: Embedder | None,
        section: RetrievalSection,
        reranker: BaseNodePostprocessor | None = None,
        filters: MetadataFilters | None = None,
        runner: Runner | None = None,
        embedder_of: Callable[[CollectionStore], Embedder] | None = None,
        together: "Gathering[Joined, list[NodeWithScore]] | None" = None,
    ) -> None:
        super().__init__()
        self._embedder_of = embedder_of
        self._runner = runner or Runner()
        self._store = store
        self._embedder = embedder
        self._section = section
        self._needs_vectors = find_mode(section.mode).needs_vectors
        self._reranker = reranker
        fetched = section.candidates if reranker else section.similarity_top_k
        self._search = section.model_copy(update={"similarity_top_k": fetched})
        both = [each for each in (parse_filter(section.filter), filters) if each is not None]
        self._filters = MetadataFilters(filters=both) if len(both) > 1 else next(iter(both), None)
        self._together = together or make_gathering()
        like = self._filters.model_dump_json() if self._filters else ""
        self._kind = (self._search.model_dump_json(), like)

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
            with self._runner.question():
                store = self._store.now()
                found = self._find_each(store, some)
            for question, nodes in zip(some, found, strict=True):
                with self._runner.question():
                    refined = self._refine_one(store, QueryBundle(question), nodes)
                # Outside: however long its reader takes, no close has to wait for it.
                yield refined

    @_DISPATCHER.span
    def _find_each(
        self, store: CollectionStore, questions: Sequence[str]
    ) -> list[list[NodeWithScore]]:
        parts = [[*self._parts(question), question] for question in questions]
        asked = [part for each in parts for part in each]
        vectors: Sequence[Sequence[float]] = ()
        if (embedder := self._embedder_for(store)) is not None:
            _DISPATCHER.event(EmbeddingStartEvent(model_dict=embedder.to_payload()))
            vectors = embedder.embed_queries(asked)
            told = [list(vector) for vector in vectors]
            _DISPATCHER.event(EmbeddingEndEvent(chunks=asked, embeddings=told))
        found = iter(self._find(store, Asked(asked, vectors)))
        return [self._cover([next(found) for _ in each]) for each in parts]

    @_DISPATCHER.span
    def _refine_one(
        self, store: CollectionStore, query: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        """Refine what one of many questions found, told as `retrieve` tells of a single one."""
        _DISPATCHER.event(RetrievalStartEvent(str_or_query_bundle=query))
        refined = self._refine(store, query, nodes)
        _DISPATCHER.event(RetrievalEndEvent(str_or_query_bundle=query, nodes=refined))
        return refined

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        check_question(query_bundle.query_str)
        with self._runner.question():
            return self._ask(self._store.now(), query_bundle)

    @_DISPATCHER.span  # as `_retrieve`, which LlamaIndex decorates by itself
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        check_question(query_bundle.query_str)
        with self._runner.question():
            store = await self._runner.run(self._store.now)
            vector = self._given(store, query_bundle)
            # No thread waits for the vector: questions that are asked together share a batch.
            if not vector and (embedder := self._embedder_for(store)) is not None:
                vector = await embedder.aget_agg_embedding_from_queries(query_bundle.embedding_strs)
                self._keep(query_bundle, embedder, vector)
            return await self._runner.run(self._ask, store, query_bundle, vector)

    def _ask(
        self, store: CollectionStore, query: QueryBundle, vector: list[float] | None = None
    ) -> list[NodeWithScore]:
        """Ask a collection; where another one took its place meanwhile, that, from the start."""
        try:
            return self._ask_one(store, query, vector)
        except CollectionChangedError:
            if (newer := self._store.now()) is store:
                raise
            return self._ask_one(newer, query, None)

    def _ask_one(
        self, store: CollectionStore, query: QueryBundle, vector: list[float] | None
    ) -> list[NodeWithScore]:
        vector = vector or self._given(store, query)
        if not vector and (embedder := self._embedder_for(store)) is not None:
            vector = embedder.get_agg_embedding_from_queries(query.embedding_strs)
            self._keep(query, embedder, vector)
        parts = self._parts(query.query_str)
        if not parts:
            return self._refine(store, query, self._found(store, query.query_str, vector))
        vectors = [vector] if vector and self._needs_vectors else []
        if vectors and (embedder := self._embedder_for(store)) is not None:
            vectors = [*embedder.embed_queries(parts), *vectors]
        found = self._find(store, Asked([*parts, query.query_str], vectors))
        return self._refine(store, query, self._cover(found))

    def _parts(self, question: str) -> list[str]:
        """Return the parts of a question that asks for several things; of others none."""
        if self._section.decompose == "never":
            return []
        parts = split_question(question)
        return parts if len(parts) > 1 else []

    def _cover(self, found: Sequence[list[NodeWithScore]]) -> list[NodeWithScore]:
        if len(found) == 1:
            return found[0]
        return cover(found, self._search.similarity_top_k)

    def _embedder_for(self, store: CollectionStore) -> Embedder | None:
        """Return what embeds a collection's questions; None where it needs no vectors."""
        if self._embedder is None or not self._needs_vectors:
            return None
        return self._embedder_of(store) if self._embedder_of else self._embedder

    def _given(self, store: CollectionStore, query: QueryBundle) -> list[float] | None:
        """Return a question's vector, if it has one and that is of the collection's model."""
        return query.embedding if self._embedder_for(store) is self._embedder else None

    def _keep(self, query: QueryBundle, embedder: Embedder, vector: list[float]) -> None:
        """Leave the vector in the bundle, as LlamaIndex's own retriever does.

        What answers may need it, too, with vectors of sentences: of the same model.
        """
        if embedder is self._embedder:
            query.embedding = vector

    def _found(
        self, store: CollectionStore, question: str, vector: list[float] | None
    ) -> list[NodeWithScore]:
        """Search for a question's nodes, together with those of others that are asked by now."""
        vector = vector if self._needs_vectors else None
        # One whose vector is not the model's own must not spoil the others' call.
        kind = (id(store), *self._kind, len(vector or ()))

        def find(asked: Sequence[Joined]) -> list[list[NodeWithScore]]:
            vectors = [each for _, each in asked if each]
            return self._find(store, Asked([text for text, _ in asked], vectors))

        return self._together.join((question, vector), find, kind).result()

    def _find(self, store: CollectionStore, asked: Asked) -> list[list[NodeWithScore]]:
        def find(section: RetrievalSection) -> list[list[NodeWithScore]]:
            return store.find(asked, section, filters=self._filters, each_once=True)

        found = find(self._search)
        is_cut = any(PARENT in node.metadata for nodes in found for node in nodes)
        if not is_cut or self._reranker is not None or self._section.expand:
            return found
        # Several pieces become one passage, and others are to be there for their places.
        more = min(_MORE * self._section.similarity_top_k, _MOST)
        return find(self._search.model_copy(update={"similarity_top_k": more}))

    def _refine(
        self, store: CollectionStore, query: QueryBundle, nodes: list[NodeWithScore]
    ) -> list[NodeWithScore]:
        section = self._section
        evidence = evidence_of(nodes)
        if self._reranker is not None:
            nodes = self._reranker.postprocess_nodes(nodes, query)
            scores = tuple(node.score or 0.0 for node in nodes[: section.similarity_top_k])
            evidence = replace(evidence, reranked=scores) if evidence else None
        if section.min_score is not None:
            nodes = [node for node in nodes if (node.score or 0.0) >= section.min_score]
        if section.expand:
            nodes = expand(nodes[: section.similarity_top_k], section.expand, store.nodes_in)
        else:
            nodes = join_parents(nodes, section.similarity_top_k, store.nodes_in)
        # A reranker and passages make nodes of their own.
        return with_evidence(nodes, evidence) if evidence else nodes


def make_retriever(
    store: CollectionStore, embedder: Embedder | None, section: RetrievalSection
) -> Retriever:
    """Return the configured retriever, with its reranker.

    Raises
    ------
    ModelUnavailableError
        If the reranker's model is not here and cannot be fetched.
    """
    return Retriever(store, embedder, section, build_reranker(section.reranker))
