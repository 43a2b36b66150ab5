"""The one place where the query path is wired: retriever → packer → prompt → LLM → `Response`."""

from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine

from rag_app.batch import Batch
from rag_app.chat import ChatEngine
from rag_app.config import Config
from rag_app.embeddings import Embedder, build_embedder
from rag_app.llms import PackableLLM, build_llm
from rag_app.llms.extractive import Extractor
from rag_app.prompts import PromptTemplate
from rag_app.retriever import Retriever, make_index, make_retriever
from rag_app.search import needs_vectors
from rag_app.synthesizer import ExtractiveSynthesizer, PromptSynthesizer, RagSynthesizer
from rag_app.vector_store import open_store


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
    # Without vectors no model is loaded.
    embedder = build_embedder(config.embedding) if needs_vectors(config.retrieval.mode) else None
    return make_retriever(store, embedder, config.retrieval)


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
    store = open_store(config)
    embedder = build_embedder(config.embedding)
    return RetrieverQueryEngine(
        retriever=make_retriever(store, embedder, config.retrieval),
        response_synthesizer=make_synthesizer(config, embedder, streaming=streaming),
    )


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
    store = open_store(config)
    template = PromptTemplate.load(config.prompt.template)
    query_engine = RetrieverQueryEngine(
        retriever=make_retriever(store, build_embedder(config.embedding), config.retrieval),
        response_synthesizer=PromptSynthesizer(
            llm, template, streaming=True, order=config.prompt.order
        ),
    )
    return ChatEngine(query_engine, llm)


def build_batch(config: Config) -> Batch:
    """Build what answers many questions together. Raises as `build_query_engine`."""
    store = open_store(config)
    embedder = build_embedder(config.embedding)
    return Batch(
        retriever=make_retriever(store, embedder, config.retrieval),
        synthesizer=make_synthesizer(config, embedder),
    )


def make_synthesizer(
    config: Config, embedder: Embedder, *, streaming: bool = False, llm: PackableLLM | None = None
) -> RagSynthesizer:
    """Return what answers from retrieved nodes; `llm` is one that is built already.

    Raises
    ------
    LLMError
        If the configured backend cannot run here.
    """
    if config.llm.backend == "extractive":
        extractor = Extractor(config.llm.extractive, embedder)
        return ExtractiveSynthesizer(extractor, streaming=streaming)
    template = PromptTemplate.load(config.prompt.template)
    return PromptSynthesizer(
        llm or build_llm(config.llm), template, streaming=streaming, order=config.prompt.order
    )
