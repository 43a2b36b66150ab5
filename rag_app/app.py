"""`RagApp`: the one place where what is costly or exclusive is made, shared and closed.

`rag_app.build` is for those who need one thing once.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.answering.base import RagSynthesizer
from rag_app.answering.batch import Batch
from rag_app.answering.chat import ChatEngine
from rag_app.answering.confidence import Judge
from rag_app.answering.factory import make_extractor, make_synthesizer
from rag_app.answering.query_engine import QueryEngine
from rag_app.answering.sessions import Session, SessionStore, make_memory
from rag_app.answering.synthesizer import ExtractiveSynthesizer
from rag_app.config.portable import without_secrets
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.embedding.batching import BatchingEmbedder
from rag_app.embedding.factory import build_embedder
from rag_app.embedding.others import Others
from rag_app.ingestion.pipeline import ShowProgress
from rag_app.ingestion.run import Confirm, ingest
from rag_app.ingestion.serial import SerialRuns
from rag_app.llms import PackableLLM, build_llm
from rag_app.milvus import holders
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import find_index, open_store
from rag_app.overrides import changed_sampling, with_overrides
from rag_app.parts import Part
from rag_app.retrieval.reranker import build_reranker
from rag_app.retrieval.retriever import Retriever, make_gathering, make_index
from rag_app.runner import Runner
from rag_app.schema import IngestReport
from rag_app.search.modes import find_mode
from rag_app.travelling import app_of, remembered

DRAIN_SECONDS = 0.5
"""How long `RagApp.close` waits for the questions that run, unless it is told otherwise."""


class RagApp:
    """The parts of one configuration, and the engines that share them.

    Milvus connection, embedder, reranker and LLM are each made once, on first use, from any thread.
    What the methods return may be used from any number of threads and event loops until `close`,
    which gives everything back, a Milvus Lite database's lock included. It can be pickled and
    copied, as the app can: another process opens its own parts, once for all it is given of an app.

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
        self._given = llm, embedder
        self._name = remembered(self)
        self._ingests = SerialRuns()
        self.answers_by_llm = llm is not None or config.llm.backend != "extractive"
        self._runner = Runner()
        self._together = make_gathering()
        self._store = Part(self._hold, lambda store: _let_go(store, config))
        if isinstance(embedder, BatchingEmbedder):  # another app's, which closes it
            shared = embedder
            self._embedder = Part(lambda: shared)
        else:
            self._embedder = Part(
                lambda: BatchingEmbedder(embedder or build_embedder(config.embedding)),
                BatchingEmbedder.close,
            )
        self._others = Others(self._embedder, config.embedding)
        # One for all calls: it keeps the vectors of sentences that come again.
        self._extractor = Part(lambda: make_extractor(config, self.embedder))
        self._reranker = Part(lambda: build_reranker(config.retrieval.reranker))
        self._llm: Part[PackableLLM] = Part(
            lambda: llm or build_llm(config.llm),
            None if llm is not None else lambda made: made.close(),
        )
        self.sessions = SessionStore(config.chat, lambda: make_memory(self.llm))

    def __reduce__(self) -> Any:
        # In this process it is the same app, in another one it opens its parts again.
        return app_of, (self._name, type(self), without_secrets(self.config), *self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, drain: float = DRAIN_SECONDS) -> None:
        """Stop the LLM, free the models, and let go of Milvus. A second time does nothing.

        No question is let in any more; those that run have `drain` seconds to end, and fail then. A
        running ingest writes what it has embedded, and the next one goes on from there. What was
        made of this app raises ClosedError afterwards. An event loop whose questions are waited for
        has to go on meanwhile: ``await asyncio.to_thread(app.close)``.

        Parameters
        ----------
        drain
            Seconds.
        """
        # First whoever uses the parts, then the parts, those that others use last.
        self._runner.drain(drain)
        self._ingests.close()
        self._together.close(wait=False)  # what hangs in Milvus ends when that is closed
        for part in (self._llm, self._extractor, self._reranker, self._embedder, self._store):
            part.close()
        self._others.close()
        self._runner.close()  # last: a step that hangs in a part ends when that is closed

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
        return self._store().now()

    @property
    def embedder(self) -> Embedder:
        """The embedding model: questions that are asked together are embedded together.

        Raises
        ------
        ModelUnavailableError
            If it cannot be loaded.
        """
        return self._embedder()

    @property
    def reranker(self) -> BaseNodePostprocessor | None:
        """The reranker; None if there is none. Raises ModelUnavailableError if it cannot run."""
        return self._reranker()

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
        return make_index(store, self.embedder).made_by(self.index)

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
        made = self._retriever(with_overrides(self.config, overrides), filters)
        return made.made_by(self.retriever, filters=filters, **overrides)

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
        config = with_overrides(self.config, overrides)
        retriever, synthesizer = self._both(config, filters, streaming=streaming)
        if callback_manager is not None:
            retriever.callback_manager = callback_manager
            synthesizer.callback_manager = callback_manager
        return QueryEngine(
            retriever, synthesizer, self._runner, node_postprocessors, callback_manager
        ).made_by(
            self.query_engine,
            streaming=streaming,
            filters=filters,
            node_postprocessors=node_postprocessors,
            callback_manager=callback_manager,
            **overrides,
        )

    def chat_engine(self, session: str | None = None, **overrides: Any) -> ChatEngine:
        """Return the engine of one conversation; follow-up questions are rewritten first.

        Parameters
        ----------
        session
            The conversation's name: engines of the same name go on with it, until it is forgotten
            (``[chat]``, or ``sessions.forget``). None: a conversation of its own, as long as the
            engine is there.

        Raises
        ------
        ConfigError
            If ``llm.backend`` is "extractive", which cannot rewrite a question.
        RagAppError
            As `query_engine`.
        """
        llm = self.llm  # first: it refuses "extractive" before anything is opened
        engine = self.query_engine(streaming=True, **overrides)
        own = Session(make_memory(llm))
        made = ChatEngine(
            engine,
            llm,
            (lambda: own) if session is None else (lambda: self.sessions.open(session)),
            self._runner,
        )
        return made.made_by(self.chat_engine, session=session, **overrides)

    def batch(self, **overrides: Any) -> Batch:
        """Return what answers many questions together. Raises as `query_engine`."""
        made = Batch(*self._both(with_overrides(self.config, overrides), None))
        return made.made_by(self.batch, **overrides)

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
        # Held for itself: another app that closes must not release the database under it.
        with self._ingests.run(stop) as stop, holders.holding(self.config.vector_store.uri):
            # The first ingest makes the collection: to open it before is an error.
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
                make_embedder=lambda: self.embedder,  # loaded if there is anything to embed
                store=store,
            )

    def _hold(self) -> CollectionStore:
        """Open the collection; a Milvus Lite database is held until the last app lets go."""
        store = open_store(self.config, foreign=True)
        store.prepare_with(self._others.of)
        holders.hold(self.config.vector_store.uri)
        return store

    def _retriever(self, config: Config, filters: MetadataFilters | None = None) -> Retriever:
        store = self._store()  # before a model loads for seconds
        embedder = self.embedder if find_mode(config.retrieval.mode).needs_vectors else None
        return Retriever(
            store,
            embedder,
            config.retrieval,
            self._reranker(),
            filters,
            runner=self._runner,
            embedder_of=self._others.of,
            together=self._together,
        )

    def _both(
        self, config: Config, filters: MetadataFilters | None, *, streaming: bool = False
    ) -> tuple[Retriever, RagSynthesizer]:
        """Make both halves; what fails at once is asked before the embedder loads for seconds."""
        _ = self.store
        llm = self.llm if self.answers_by_llm else None
        retriever = self._retriever(config, filters)
        if llm is None:
            extractor = self._extractor()
            return retriever, ExtractiveSynthesizer(
                extractor,
                streaming=streaming,
                runner=self._runner,
                judge=Judge(config.answer),
            )
        return retriever, make_synthesizer(
            config,
            streaming=streaming,
            llm=llm,
            sampling=changed_sampling(self.config.llm, config.llm),
            runner=self._runner,
        )


def _let_go(store: CollectionStore, config: Config) -> None:
    store.close()
    holders.let_go(config.vector_store.uri)
