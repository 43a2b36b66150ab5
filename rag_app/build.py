"""The `build_*` functions: one engine of an app of its own, open until the process ends."""

from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine

from rag_app.answering.batch import Batch
from rag_app.answering.chat import ChatEngine
from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.llms import PackableLLM
from rag_app.retrieval.retriever import Retriever


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
