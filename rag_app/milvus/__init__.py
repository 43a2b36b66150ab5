"""Rows in Milvus Lite or on a Milvus server: opened, checked, written, searched, deleted.

In: `[vector_store]`, nodes with vectors, questions. Out: a LlamaIndex vector store, and hits.
Read `store.py` (open and create) first, then `collection.py` (written and searched) and `rows.py`
(documents).
"""

import os

# gRPC reads it when it is imported. Else it tells on the terminal of connections that end, as those
# do whose other side is killed.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
