"""Grounded answers from your own documents: LlamaIndex, Milvus and vLLM.

>>> from rag_app import load_config, ingest, build_query_engine
>>> config = load_config()
>>> report = ingest(config, ["docs/"])
>>> print(build_query_engine(config).query("What do the parameters for HNSW mean?"))

The names below are imported when they are first used: this module itself imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# For type checkers and editors, which do not look into `__getattr__`.
if TYPE_CHECKING:
    from rag_app.app import RagApp
    from rag_app.build import (
        build_batch,
        build_chat_engine,
        build_index,
        build_query_engine,
        build_retriever,
    )
    from rag_app.config.sections import Config
    from rag_app.documents.directory_reader import DirectoryReader, file_readers
    from rag_app.documents.node_parser import NodeParser
    from rag_app.embedding.factory import build_embedder
    from rag_app.errors import RagAppError
    from rag_app.ingestion.run import ingest
    from rag_app.llms import build_llm
    from rag_app.load import load_config
    from rag_app.milvus.docstore import CollectionDocstore
    from rag_app.milvus.store import open_store
    from rag_app.retrieval.reranker import build_reranker
    from rag_app.schema import IngestReport, LedgerEntry, Source
    from rag_app.tools import RagAppToolSpec, as_tool

_HOMES = {
    # configuration
    "Config": "rag_app.config.sections",
    "load_config": "rag_app.load",
    "RagAppError": "rag_app.errors",
    # documents in
    "ingest": "rag_app.ingestion.run",
    "IngestReport": "rag_app.schema",
    "DirectoryReader": "rag_app.documents.directory_reader",
    "NodeParser": "rag_app.documents.node_parser",
    "file_readers": "rag_app.documents.directory_reader",
    # answers out
    "RagApp": "rag_app.app",
    "build_index": "rag_app.build",
    "build_retriever": "rag_app.build",
    "build_query_engine": "rag_app.build",
    "build_chat_engine": "rag_app.build",
    "build_batch": "rag_app.build",
    "RagAppToolSpec": "rag_app.tools",
    "as_tool": "rag_app.tools",
    # parts
    "build_embedder": "rag_app.embedding.factory",
    "build_llm": "rag_app.llms",
    "build_reranker": "rag_app.retrieval.reranker",
    "open_store": "rag_app.milvus.store",
    "CollectionDocstore": "rag_app.milvus.docstore",
    "LedgerEntry": "rag_app.schema",
    "Source": "rag_app.schema",
}

__all__ = [
    "CollectionDocstore",
    "Config",
    "DirectoryReader",
    "IngestReport",
    "LedgerEntry",
    "NodeParser",
    "RagApp",
    "RagAppError",
    "RagAppToolSpec",
    "Source",
    "as_tool",
    "build_batch",
    "build_chat_engine",
    "build_embedder",
    "build_index",
    "build_llm",
    "build_query_engine",
    "build_reranker",
    "build_retriever",
    "file_readers",
    "ingest",
    "load_config",
    "open_store",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
