"""Grounded answers from your own documents: LlamaIndex, Milvus and vLLM.

>>> from rag_app import load_config, ingest, build_query_engine
>>> config = load_config()
>>> report = ingest(config, ["docs/"])
>>> print(build_query_engine(config).query("What do the parameters for HNSW mean?"))

The names below are imported when they are first used: this module itself imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_app.app import build_index, build_query_engine, build_retriever
    from rag_app.config.loader import load_config
    from rag_app.config.sections import Config
    from rag_app.errors import RagAppError
    from rag_app.ingestion.run import ingest
    from rag_app.schema import IngestReport, LedgerEntry, Source

_HOMES = {
    # configuration
    "Config": "rag_app.config.sections",
    "load_config": "rag_app.config.loader",
    "RagAppError": "rag_app.errors",
    # documents in
    "ingest": "rag_app.ingestion.run",
    "IngestReport": "rag_app.schema",
    # answers out
    "build_index": "rag_app.app",
    "build_retriever": "rag_app.app",
    "build_query_engine": "rag_app.app",
    "LedgerEntry": "rag_app.schema",
    "Source": "rag_app.schema",
}

__all__ = [
    "Config",
    "IngestReport",
    "LedgerEntry",
    "RagAppError",
    "Source",
    "build_index",
    "build_query_engine",
    "build_retriever",
    "ingest",
    "load_config",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
