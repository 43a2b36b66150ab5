"""`RagApp`: the one place where what is costly or exclusive is made, shared and closed.

The `build_*` functions are for those who need one thing once.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, RLock
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.answering.batch import Batch
from rag_app.answering.chat import ChatEngine
from rag_app.answering.extractive import Extractor
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.synthesizer import ExtractiveSynthesizer, PromptSynthesizer, RagSynthesizer
from rag_app.config.sections import SAMPLING, Config, LLMSection, PromptSection, RetrievalSection
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.errors import ConfigError, InputError
from rag_app.ingestion.pipeline import ShowProgress
from rag_app.ingestion.run import Confirm, ingest
from rag_app.ingestion.serial import SerialRuns
from rag_app.llms import PackableLLM, build_llm
from rag_app.load import override
from rag_app.milvus import lite_files
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import find_index, open_store
from rag_app.retrieval.reranker import build_reranker
from rag_app.retrieval.retriever import Retriever, make_index
from rag_app.schema import IngestReport
from rag_app.search.modes import find_mode

T = TypeVar("T")

MOST_NODES = 16_384
"""What a reranker returns at most: the retriever takes as many as a call asks for."""

_NOT_PER_CALL = {"language", "reranker"}
"""Keys of ``[retrieval]`` that cost a reload, or that the rows were made with."""

OVERRIDES: Mapping[str, str] = {
    **{
        name: f"retrieval.{name}"
        for name in RetrievalSection.model_fields
        if name not in _NOT_PER_CALL
    },
    **{name: f"prompt.{name}" for name in PromptSection.model_fields},
    **{name: f"llm.{name}" for name in ("temperature", "top_p", "max_tokens")},
    **{name: f"llm.sampling.{name}" for name in SAMPLING},
}
"""What can differ from call to call, by the name that `RagApp`'s methods take, and its key."""


class _Part(Generic[T]):
    """Something costly: made on first use, once, from any thread; closed once."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], object] | None = None) -> None:
        self._make = make
        self._close = close
        self._made: list[T] = []
        self._is_closed = False
        self._lock = RLock()

    def __call__(self) -> T:
        with self._lock:
            if self._is_closed:
                raise InputError("this RagApp is closed", "make another one: RagApp(config)")
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._made and self._close is not None:
                self._close(self._made[0])
            self._made.clear()


class RagApp:
    """The parts of one configuration, and the engines that share them.

    Milvus connection, embedder, reranker and LLM are each made once, on first use, from any thread.
    What the methods return may be used from any number of threads and event loops until `close`,
    which gives everything back, a Milvus Lite database's lock included.

    >>> with RagApp(load_config()) as app:
    ...     app.query_engine().query("What is HNSW?")
    ...     app.query_engine(similarity_top_k=3, filter='type = "html"').query("What is HNSW?")

    Overrides, which cost no reload, are the keys of ``[retrieval]`` (without ``language`` and
    ``reranker``), of ``[prompt]``, and the sampling keys of ``[llm]``: see `OVERRIDES`. They are
    checked as the file's are.

    Parameters
    ----------
    config
        From `rag_app.load_config`.
    llm, embedder
        In place of the configured ones; they stay the caller's to close.
    """

    def __init__(
        self,
        config: Config,
        *,
        llm: PackableLLM | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.config = config
        self._ingests = SerialRuns()
        self.answers_by_llm = llm is not None or config.llm.backend != "extractive"
        self._store = _Part(lambda: _hold(config), lambda _: _let_go(config.vector_store.uri))
        self._embedder: _Part[Embedder] = _Part(
            lambda: embedder or build_embedder(config.embedding)
        )
        # One for all calls: it keeps the vectors of sentences that come again.
        self._extractor = _Part(lambda: make_extractor(config, self.embedder))
        self._reranker = _Part(lambda: build_reranker(config.retrieval.reranker, MOST_NODES))
        self._llm: _Part[PackableLLM] = _Part(
            lambda: llm or build_llm(config.llm),
            None if llm is not None else lambda made: made.close(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the LLM, free the models, and let go of Milvus. A second time does nothing.

        A running ingest writes what it has embedded, and the next one goes on from there.

        What was made of this app raises InputError or the library's own error afterwards.
        """
        self._ingests.close()
        for part in (self._llm, self._extractor, self._reranker, self._embedder, self._store):
            part.close()

    @property
    def store(self) -> CollectionStore:
        """The open collection, a LlamaIndex vector store.

        Raises
        ------
        InputError
            If nothing was ingested yet, or the app is closed.
        CollectionMismatchError
            If another configuration made the collection.
        VectorStoreError
            If Milvus cannot be used.
        """
        return self._store()

    @property
    def embedder(self) -> Embedder:
        """The embedding model. Raises ModelUnavailableError if it cannot be loaded."""
        return self._embedder()

    @property
    def llm(self) -> PackableLLM:
        """The LLM. Raises LLMError if it cannot run here, ConfigError for "extractive"."""
        return self._llm()

    def index(self) -> VectorStoreIndex:
        """Return the collection as a LlamaIndex `VectorStoreIndex`.

        What ``[retrieval]`` says of modes and filters is the retriever's and not the index's: hand
        ``as_retriever`` its own ``vector_store_query_mode`` and ``filters``.
        """
        store = self.store  # first: it fails in a second, the embedder loads for several
        return make_index(store, self.embedder)

    def retriever(self, *, filters: MetadataFilters | None = None, **overrides: Any) -> Retriever:
        """Return a retriever: nodes best first, with scores.

        Parameters
        ----------
        filters
            LlamaIndex's, joined to ``retrieval.filter``.

        Raises
        ------
        ConfigError
            If an override is none of `OVERRIDES`, or its value is wrong.
        RagAppError
            As `store` and `embedder`.
        """
        return self._retriever(self._with(overrides), filters)

    def query_engine(
        self,
        *,
        streaming: bool = False,
        filters: MetadataFilters | None = None,
        node_postprocessors: Sequence[BaseNodePostprocessor] = (),
        callback_manager: CallbackManager | None = None,
        **overrides: Any,
    ) -> RetrieverQueryEngine:
        """Return a query engine: ``query``, ``aquery``, and wherever LlamaIndex takes one.

        Parameters
        ----------
        streaming
            Answer with a `StreamingResponse` (``aquery``: `AsyncStreamingResponse`).
        filters
            LlamaIndex's, joined to ``retrieval.filter``.
        node_postprocessors
            LlamaIndex's, applied to the retrieved nodes before they are packed.
        callback_manager
            Told of queries, retrievals and syntheses.

        Raises
        ------
        LLMError
            If the configured backend cannot run here.
        RagAppError
            As `retriever`.
        """
        config = self._with(overrides)
        retriever, synthesizer = self._both(config, filters, streaming=streaming)
        if callback_manager is not None:
            retriever.callback_manager = callback_manager
            synthesizer.callback_manager = callback_manager
        return RetrieverQueryEngine(
            retriever=retriever,
            response_synthesizer=synthesizer,
            node_postprocessors=list(node_postprocessors),
            callback_manager=callback_manager or CallbackManager(),
        )

    def chat_engine(self, **overrides: Any) -> ChatEngine:
        """Return the engine of one conversation; follow-up questions are rewritten first.

        Raises
        ------
        ConfigError
            If ``llm.backend`` is "extractive", which cannot rewrite a question.
        RagAppError
            As `query_engine`.
        """
        llm = self.llm
        return ChatEngine(self.query_engine(streaming=True, **overrides), llm)

    def batch(self, **overrides: Any) -> Batch:
        """Return what answers many questions together. Raises as `query_engine`."""
        return Batch(*self._both(self._with(overrides), None))

    def ingest(
        self,
        paths: Iterable[str | Path],
        *,
        prune: bool = False,
        confirm: Confirm | None = None,
        moved_from: str | Path | None = None,
        dry_run: bool = False,
        progress: ShowProgress | None = None,
        stop: Event | None = None,
    ) -> IngestReport:
        """Make the collection equal to what is under `paths`, as `rag_app.ingest` does.

        The app's embedder and connection are used, and what was made of the app before finds what
        is new. One ingest runs at a time, others wait; it takes a thread: on an event loop, ``await
        asyncio.to_thread(app.ingest, paths)``.

        Raises
        ------
        RagAppError
            As `rag_app.ingest`, or if the app is closed.
        """
        with self._ingests.run(stop) as stop, _holding(self.config):
            store = self.store if find_index(self.config) is not None else None
            return ingest(
                self.config,
                paths,
                prune=prune,
                confirm=confirm,
                moved_from=moved_from,
                dry_run=dry_run,
                progress=progress,
                stop=stop,
                make_embedder=lambda: self.embedder,
                store=store,
            )

    def _with(self, overrides: Mapping[str, Any]) -> Config:
        if not overrides:
            return self.config
        for name in overrides:
            if name not in OVERRIDES:
                raise ConfigError(
                    f"{name!r} cannot be changed per call", f"use {', '.join(sorted(OVERRIDES))}"
                )
        return override(self.config, {OVERRIDES[name]: value for name, value in overrides.items()})

    def _retriever(self, config: Config, filters: MetadataFilters | None = None) -> Retriever:
        store = self.store  # before a model loads for seconds
        embedder = self.embedder if find_mode(config.retrieval.mode).needs_vectors else None
        return Retriever(store, embedder, config.retrieval, self._reranker(), filters=filters)

    def _both(
        self, config: Config, filters: MetadataFilters | None, *, streaming: bool = False
    ) -> tuple[Retriever, RagSynthesizer]:
        """Make both halves; what fails at once is asked before the embedder loads for seconds."""
        _ = self.store
        llm = self.llm if self.answers_by_llm else None
        retriever = self._retriever(config, filters)
        if llm is None:
            return retriever, ExtractiveSynthesizer(self._extractor(), streaming=streaming)
        sampling = _sampling(self.config.llm, config.llm)
        return retriever, make_synthesizer(config, streaming=streaming, llm=llm, sampling=sampling)


def build_index(config: Config) -> VectorStoreIndex:
    """Open the configured collection as `RagApp.index` does, until the process ends."""
    return RagApp(config).index()


def build_retriever(config: Config, **options: Any) -> Retriever:
    """Build the configured retriever as `RagApp.retriever` does, until the process ends."""
    return RagApp(config).retriever(**options)


def build_query_engine(
    config: Config,
    *,
    llm: PackableLLM | None = None,
    embedder: Embedder | None = None,
    **options: Any,
) -> RetrieverQueryEngine:
    """Build the query engine as `RagApp.query_engine` does, until the process ends."""
    return RagApp(config, llm=llm, embedder=embedder).query_engine(**options)


def build_chat_engine(
    config: Config,
    *,
    llm: PackableLLM | None = None,
    embedder: Embedder | None = None,
    **overrides: Any,
) -> ChatEngine:
    """Build a conversation's engine as `RagApp.chat_engine` does, until the process ends."""
    return RagApp(config, llm=llm, embedder=embedder).chat_engine(**overrides)


def build_batch(config: Config, **overrides: Any) -> Batch:
    """Build what answers many questions together, until the process ends."""
    return RagApp(config).batch(**overrides)


def make_synthesizer(
    config: Config,
    embedder: Embedder | None = None,
    *,
    streaming: bool = False,
    llm: PackableLLM | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> RagSynthesizer:
    """Return what answers from retrieved nodes.

    Parameters
    ----------
    embedder, llm
        Those that are there already; None: what the backend needs is built.
    sampling
        Sampling parameters that differ from those that the LLM was built with.

    Raises
    ------
    LLMError
        If the configured backend cannot run here.
    """
    if llm is None and config.llm.backend == "extractive":
        return ExtractiveSynthesizer(make_extractor(config, embedder), streaming=streaming)
    return PromptSynthesizer(
        llm or build_llm(config.llm),
        PromptTemplate.load(config.prompt.template),
        streaming=streaming,
        order=config.prompt.order,
        sampling=sampling,
        instructions=config.prompt.instructions,
    )


_holders: Counter[str] = Counter()
_holders_lock = Lock()


def _hold(config: Config) -> CollectionStore:
    """Open the collection; a Milvus Lite database is this process's until the last app lets go."""
    store = open_store(config)
    with _holders_lock:
        _holders[_place(config.vector_store.uri)] += 1
    return store


@contextmanager
def _holding(config: Config) -> Iterator[None]:
    """Let go of a Milvus Lite database that is only used within the block."""
    with _holders_lock:
        _holders[_place(config.vector_store.uri)] += 1
    try:
        yield
    finally:
        _let_go(config.vector_store.uri)


def _let_go(uri: str) -> None:
    with _holders_lock:
        place = _place(uri)
        _holders[place] -= 1
        if not _holders[place]:
            del _holders[place]
            lite_files.release(uri)


def _place(uri: str) -> str:
    return uri if "://" in uri else os.path.realpath(uri)


def _sampling(built: LLMSection, asked: LLMSection) -> dict[str, Any]:
    """Tell which sampling parameters an LLM has to be asked with that it was not built with."""

    def of(section: LLMSection) -> dict[str, Any]:
        own = {name: getattr(section, name) for name in ("temperature", "top_p", "max_tokens")}
        return {**own, **section.sampling}

    before = of(built)
    return {name: value for name, value in of(asked).items() if before.get(name) != value}


def make_extractor(config: Config, embedder: Embedder | None = None) -> Extractor:
    """Return what quotes, with this embedder or the configured one."""
    return Extractor(
        config.llm.extractive,
        embedder or build_embedder(config.embedding),
        config.retrieval.language,
    )
