"""The one place where the query path is wired: retriever → packer → prompt → LLM → `Response`."""

from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine

from rag_app.answering.batch import Batch
from rag_app.answering.chat import ChatEngine
from rag_app.answering.extractive import Extractor
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.synthesizer import ExtractiveSynthesizer, PromptSynthesizer, RagSynthesizer
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.llms import PackableLLM, build_llm
from rag_app.milvus.store import open_store
from rag_app.retrieval.modes import needs_vectors
from rag_app.retrieval.retriever import Retriever, make_index, make_retriever


def build_index(config: Config) -> VectorStoreIndex:
    """Open the configured collection as a LlamaIndex `VectorStoreIndex`.

    What ``[retrieval]`` says of modes and filters is the retriever's and not the index's: hand
    ``as_retriever`` its own ``vector_store_query_mode`` and ``filters``.

    Raises
    ------
    InputError
        If nothing was ingested yet.
    CollectionMismatchError
        If another configuration made the collection.
    ModelUnavailableError, VectorStoreError
        If the embedder or Milvus cannot be used.
    """
    store = open_store(config)  # first: it fails in a second, the embedder loads for several
    return make_index(store, build_embedder(config.embedding))


def build_retriever(config: Config) -> Retriever:
    """Build the configured retriever: nodes best first, with scores. Raises as `build_index`."""
    store = open_store(config)
    return make_retriever(store, _retrievers_embedder(config), config.retrieval)


def build_query_engine(config: Config, *, streaming: bool = False) -> RetrieverQueryEngine:
    """Build the query engine: ``query``, ``aquery``, and wherever LlamaIndex takes one.

    Parameters
    ----------
    streaming
        Answer with a `StreamingResponse` (``aquery``: `AsyncStreamingResponse`).

    Raises
    ------
    LLMError
        If the configured backend cannot run here.
    InputError, CollectionMismatchError, ModelUnavailableError, VectorStoreError
        As `build_index`.
    """
    retriever, synthesizer = _make_both(config, streaming=streaming)
    return RetrieverQueryEngine(retriever=retriever, response_synthesizer=synthesizer)


def build_chat_engine(config: Config) -> ChatEngine:
    """Build the engine of a conversation that rewrites follow-up questions before retrieval.

    Raises
    ------
    ConfigError
        If ``llm.backend`` is "extractive", which cannot rewrite a question.
    RagAppError
        As `build_query_engine`.
    """
    llm = build_llm(config.llm)
    retriever, synthesizer = _make_both(config, streaming=True, llm=llm)
    query_engine = RetrieverQueryEngine(retriever=retriever, response_synthesizer=synthesizer)
    return ChatEngine(query_engine, llm)


def build_batch(config: Config) -> Batch:
    """Build what answers many questions together. Raises as `build_query_engine`."""
    retriever, synthesizer = _make_both(config)
    return Batch(retriever, synthesizer)


def _make_both(
    config: Config, *, streaming: bool = False, llm: PackableLLM | None = None
) -> tuple[Retriever, RagSynthesizer]:
    """Make both halves; what fails at once is asked before the embedder loads for seconds."""
    store = open_store(config)
    if llm is None and config.llm.backend != "extractive":
        llm = build_llm(config.llm)
    embedder = _retrievers_embedder(config)
    retriever = make_retriever(store, embedder, config.retrieval)
    return retriever, make_synthesizer(config, embedder, streaming=streaming, llm=llm)


def _retrievers_embedder(config: Config) -> Embedder | None:
    """Load the embedder, unless the search is by words alone."""
    return build_embedder(config.embedding) if needs_vectors(config.retrieval.mode) else None


def make_synthesizer(
    config: Config,
    embedder: Embedder | None = None,
    *,
    streaming: bool = False,
    llm: PackableLLM | None = None,
) -> RagSynthesizer:
    """Return what answers from retrieved nodes.

    Parameters
    ----------
    embedder, llm
        Those that are there already; None: what the backend needs is built.

    Raises
    ------
    LLMError
        If the configured backend cannot run here.
    """
    if config.llm.backend == "extractive":
        extractor = Extractor(config.llm.extractive, embedder or build_embedder(config.embedding))
        return ExtractiveSynthesizer(extractor, streaming=streaming)
    template = PromptTemplate.load(config.prompt.template)
    return PromptSynthesizer(
        llm or build_llm(config.llm), template, streaming=streaming, order=config.prompt.order
    )
