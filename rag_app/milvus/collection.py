"""An open collection as a LlamaIndex vector store: nodes are written, and found by questions."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from llama_index.core.schema import BaseNode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from llama_index.vector_stores.milvus.base import IndexManagement
from pydantic import PrivateAttr

from rag_app.config.index_types import Index, Value
from rag_app.config.sections import Config, EmbeddingSection, RetrievalSection
from rag_app.errors import CollectionMismatchError, InputError, StoreUsageError
from rag_app.milvus.chosen import Chosen
from rag_app.milvus.dense_index import configured_index
from rag_app.milvus.expression import to_expression
from rag_app.milvus.foreign import Foreign
from rag_app.milvus.literals import among
from rag_app.milvus.node_store import BATCH_SIZE, check_options
from rag_app.milvus.noticing import Noticing
from rag_app.milvus.rows import DocumentRows, Span, StoredDocument, batches, context_of
from rag_app.milvus.search import NODE_FIELDS, VECTOR_FIELD, MilvusSearch, Terms, Words
from rag_app.milvus.words import TERMS_FIELD, WORDS_FIELD, fit
from rag_app.search.copies import choose
from rag_app.search.evidence import Watched, tell, with_evidence
from rag_app.search.modes import Asked, Hit, find_mode, named_by_llama_index
from rag_app.search.terms import TermAnalyzer

T = TypeVar("T", bound=Collection[Any])

_READING = {"search", "query", "get", "describe_collection"}
"""What may be called of another program's collection."""


class CollectionStore(DocumentRows):
    """The documents of an open collection, written and searched, as LlamaIndex's stores are.

    Search results come best first, scores are higher for better ones.

    Parameters
    ----------
    language
        Whose words its rows count, one of `rag_app.search.terms.LANGUAGES`; None: they count none.
    chosen
        What was chosen for its rows, and is searched with where nothing is configured.
    foreign
        What another program made, which is only searched; None: it is rag_app's.
    """

    _retrieval: RetrievalSection = PrivateAttr()
    _embedding: EmbeddingSection = PrivateAttr()
    _terms: TermAnalyzer | None = PrivateAttr()
    _language: str = PrivateAttr()
    _search: MilvusSearch = PrivateAttr()
    _shortened: int = PrivateAttr(default=0)
    _configured: Mapping[str, Value] = PrivateAttr()
    _noticing: "Noticing[CollectionStore] | None" = PrivateAttr(default=None)
    _foreign: Foreign | None = PrivateAttr(default=None)

    def __init__(
        self,
        config: Config,
        index: Index,
        language: str | None,
        chosen: Chosen | None = None,
        foreign: Foreign | None = None,
    ) -> None:
        section, configured = config.vector_store, config.index.search_params
        super().__init__(
            section,
            similarity_metric=index.metric,  # which may differ from the configured one
            search_config=dict(configured),
            index_management=IndexManagement.NO_VALIDATION,  # else it may build its own
            batch_size=BATCH_SIZE,
            upsert_mode=True,
        )
        self._retrieval = config.retrieval
        self._embedding = config.embedding
        self._terms = TermAnalyzer(language) if language else None
        self._configured = configured
        self._foreign = foreign
        self._language = language or config.retrieval.language
        self._search = MilvusSearch(
            self._call, index, configured, self._words(), self._terms_of_rows()
        )
        self.use_index(index, chosen)

    def _words(self) -> Words | None:
        if self._foreign is not None:  # its analyzer is Milvus's own
            return Words(self._foreign.words, str) if self._foreign.words else None
        return Words(WORDS_FIELD, self._terms.of_question) if self._terms else None

    def _terms_of_rows(self) -> Terms:
        if self._terms is not None:
            return Terms(TERMS_FIELD, str)
        return Terms("text", TermAnalyzer(self._language))

    @property
    def embedding(self) -> EmbeddingSection:
        """What embeds questions for it: the configured model, or another one that made it."""
        return self._embedding

    @property
    def is_foreign(self) -> bool:
        """Whether another program made it."""
        return self._foreign is not None

    def _call(self, method: str, **arguments: Any) -> Any:
        if self._foreign is not None and method not in _READING:
            raise InputError(
                f"the collection {self.collection_name!r} was not made by rag_app, and is only "
                "searched",
                "write to it with the program that made it",
            )
        return super()._call(method, **arguments)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "CollectionStore"

    def add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        """Write nodes with their embeddings; a node that is there already is replaced.

        With ``force_flush=True`` they are sealed at once, as LlamaIndex's own store does.
        """
        check_options(options)
        ids = []
        for rows in batches(map(self._row, nodes)):
            self._call("insert" if self._backend.insert_replaces else "upsert", data=rows)
            ids += [row["id"] for row in rows]
        if options.get("force_flush"):
            self.flush()
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes as `add` does, from any event loop."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """Search by nearness, words or both, among the rows that filters and ids leave.

        A query's ``alpha`` (1: vectors alone, 0: words alone), ``sparse_top_k`` and
        ``mmr_threshold`` go before ``[retrieval]``, and so do LlamaIndex's options
        ``mmr_threshold``, ``mmr_prefetch_k`` and ``mmr_prefetch_factor``.

        Raises
        ------
        InputError
            For an empty question, modes that are not there, and filters that
            `rag_app.milvus.expression` cannot translate.
        ConfigError
            If the mode needs words, and the collection has none.
        VectorStoreError
            If Milvus fails.
        """
        check_options(options)
        mode = named_by_llama_index(query.mode.value)
        if mode is None:
            able = (each.value for each in VectorStoreQueryMode if named_by_llama_index(each.value))
            raise StoreUsageError(
                f"this store does not support the query mode {query.mode.value!r}",
                f"use one of {', '.join(able)}",
            )
        vectors = [query.query_embedding] if query.query_embedding else []
        # LlamaIndex's retriever embeds no empty question.
        if find_mode(mode).needs_vectors and not vectors:
            raise InputError("the question is empty", "ask something")
        changes: dict[str, Any] = {"mode": mode, "similarity_top_k": query.similarity_top_k}
        if query.alpha is not None:
            changes["text_weight"] = 1 - query.alpha
        if query.sparse_top_k is not None:
            changes["candidates"] = query.sparse_top_k
        changes |= _mmr_options(query, options)
        asked = Asked([query.query_str or ""], vectors)
        section = self._retrieval.model_copy(update=changes)
        (nodes,) = self.find(asked, section, filters=_filters_of(query))
        return VectorStoreQueryResult(
            nodes=[node.node for node in nodes],
            similarities=[node.score or 0.0 for node in nodes],
            ids=[node.node_id for node in nodes],
        )

    def find(
        self,
        asked: Asked,
        section: RetrievalSection,
        *,
        filters: MetadataFilters | None = None,
        each_once: bool = False,
    ) -> list[list[NodeWithScore]]:
        """Find nodes for many questions, in few calls to Milvus: one list each, best first.

        Texts are fetched of the nodes that are returned, and of no other.

        Parameters
        ----------
        filters
            What the rows must be like.
        each_once
            Let near-copies of a node not take the places of others (`rag_app.search.copies`).

        Raises
        ------
        InputError
            If `rag_app.milvus.expression` cannot translate the filters.
        ConfigError
            If the mode needs words, and the collection has none.
        CollectionChangedError
            If another process dropped the collection, or still changes its index.
        VectorStoreError
            If Milvus fails.
        """
        return self._noticed(
            lambda store: store._find(asked, section, filters, each_once=each_once)
        )

    def nearest(self, vectors: Sequence[Sequence[float]], limit: int) -> list[list[Hit]]:
        """Return the ids and scores of the rows nearest to each vector, best first."""
        asked = Asked([""] * len(vectors), [list(each) for each in vectors])
        return self._search.search_vectors(asked, limit)

    def documents(self, filters: MetadataFilters | None = None) -> dict[str, StoredDocument]:
        """Return the documents as `DocumentRows` does, also after another process changed them."""
        return self._noticed(lambda store: DocumentRows.documents(store, filters))

    def nodes_in(self, spans: Sequence[Span]) -> list[TextNode]:
        """Return the nodes as `DocumentRows` does, also after another process changed them."""
        return self._noticed(lambda store: DocumentRows.nodes_in(store, spans))

    def _noticed(self, read: Callable[["CollectionStore"], T]) -> T:
        return self._noticing.searching(self, read) if self._noticing else read(self)

    def now(self) -> "CollectionStore":
        """Return the collection that its name means now, which may be another one by a migration.

        Whoever asks a question asks this one from the vector to the last text.
        """
        return self._noticing.now() if self._noticing else self

    def notice(self, noticing: "Noticing[CollectionStore]") -> None:
        """Have it noticed from now on what other processes do to the collection."""
        self._noticing = noticing

    def close(self) -> None:
        """Give its connections back; nothing can be asked of it any more."""
        self.client.close()
        if self._noticing is not None:
            self._noticing.close()

    def prepare_with(self, prepare: Callable[["CollectionStore"], object]) -> None:
        """Have another collection prepared before questions go there: its model takes a while."""
        if self._noticing:
            self._noticing.prepare = prepare

    def become(self, other: "CollectionStore") -> None:
        """Search as another store does, that opened the collection later."""
        # With it goes what pymilvus and LlamaIndex's store remember of the collection.
        # Engines hold this store: it stays, and what it searches with is exchanged.
        self._milvusclient, self._search, self._terms = (
            other._milvusclient,
            other._search,
            other._terms,
        )
        self.similarity_metric = other.similarity_metric

    def _find(
        self,
        asked: Asked,
        section: RetrievalSection,
        filters: MetadataFilters | None,
        *,
        each_once: bool,
    ) -> list[list[NodeWithScore]]:
        self._check_dimension(asked)
        expression = to_expression(filters, lite=self._backend.is_lite) if filters else ""
        number = section.similarity_top_k
        mode = find_mode(section.mode)
        # Copies are left out later: others have to be there for their places.
        if each_once and not mode.seeks_variety:
            spare = max(section.candidates, number)
            section = section.model_copy(update={"similarity_top_k": spare})
        watched = Watched(self._search)
        ranked = mode.find(watched, replace(asked, expression=expression), section)
        chosen = choose(ranked, number, self._fetch, each_once=each_once)
        evidence = tell(asked, watched, self._search.sample(), self._language)
        return [with_evidence(*each) for each in zip(chosen, evidence, strict=True)]

    def _check_dimension(self, asked: Asked) -> None:
        """Refuse vectors that cannot be of the model that embedded another program's rows."""
        if self._foreign is None or not len(asked.vectors):
            return
        dimension = len(asked.vectors[0])
        if dimension != self._foreign.dimension:
            raise CollectionMismatchError(
                f"the vectors of the collection {self.collection_name!r} have "
                f"{self._foreign.dimension} dimensions, and those of the configured model "
                f"{dimension}: vector_store.embedded_by is not the model that embedded it",
                "set vector_store.embedded_by and embedding.model to that model",
            )

    def _fetch(self, ids: Sequence[str]) -> dict[str, BaseNode]:
        """Return nodes by id; those that were deleted meanwhile are left out."""
        nodes = {}
        for start in range(0, len(ids), BATCH_SIZE):
            rows = self._call(
                "query",
                filter=among("id", ids[start : start + BATCH_SIZE]),
                output_fields=list(NODE_FIELDS),
            )
            for row in rows:
                nodes[row["id"]] = metadata_dict_to_node(row, text=row["text"])
        return nodes

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search as `query` does, from any event loop."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    @property
    def shortened(self) -> int:
        """How many rows were written without all of their words, which Milvus has no room for."""
        return self._shortened

    @property
    def built_index(self) -> Index:
        """The index over the vectors, as it was when the collection was opened."""
        return self._search.index

    def index_changes(self, config: Config) -> tuple[str, ...]:
        """Tell, for people, in what the configured index differs from `built_index`."""
        return self.built_index.changes(configured_index(config, self._backend))

    def use_index(self, index: Index, chosen: Chosen | None = None) -> None:
        """Take notice of another index that was built over the vectors, or of another choice."""
        by_rows = chosen.search_params if chosen else {}
        self._search.index = index
        self._search.given = {**by_rows, **self._configured}
        self.similarity_metric = index.metric

    def _row(self, node: BaseNode) -> dict[str, Any]:
        """Make a Milvus row of a node, as LlamaIndex's store does."""
        row = node_to_metadata_dict(node, remove_text=True, text_field="text")
        # No value and an empty list are what a missing one is: filters see no difference. The node
        # itself, in _node_content, keeps them.
        row = {key: value for key, value in row.items() if value is not None and value != []}
        row.pop("document_id")  # the same as doc_id, kept by LlamaIndex for other stores
        row.pop("ref_doc_id")
        if self._terms is not None:
            # A passage in the middle of a document seldom says what the document is about.
            title = node.metadata.get("title", "")
            terms = self._terms(f"{title}\n{context_of(node)}\n{node.get_content()}")
            row[TERMS_FIELD] = fit(terms)
            self._shortened += row[TERMS_FIELD] != terms
        return {
            **row,
            "id": node.node_id,
            "text": node.get_content(),
            VECTOR_FIELD: node.get_embedding(),
        }


def _mmr_options(query: VectorStoreQuery, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what LlamaIndex's own store takes for MMR, by the names of ``[retrieval]``."""
    found: dict[str, Any] = {}
    threshold = options.get("mmr_threshold", query.mmr_threshold)
    if threshold is not None:
        found["mmr_threshold"] = threshold
    looked_at = options.get("mmr_prefetch_k")
    if looked_at is None and (factor := options.get("mmr_prefetch_factor")):
        looked_at = int(query.similarity_top_k * factor)
    if looked_at is not None:
        found["candidates"] = looked_at
    return found


def _filters_of(query: VectorStoreQuery) -> MetadataFilters | None:
    """Return a query's filters, document ids and node ids as one."""
    filters: list[MetadataFilter | MetadataFilters] = [
        MetadataFilter(key=key, value=ids, operator=FilterOperator.IN)
        for key, ids in (("doc_id", query.doc_ids), ("id", query.node_ids))
        if ids
    ]
    if query.filters and filters:
        filters.append(query.filters)
    return MetadataFilters(filters=filters) if filters else query.filters
