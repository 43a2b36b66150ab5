"""Rows in Milvus Lite or on a Milvus server: opened, checked, written, searched, deleted.

In: `[vector_store]`, nodes with vectors, questions. Out: a LlamaIndex vector store, and hits.
Read `store.py` (open and create) first, then `collection.py` (written and searched) and `rows.py`
(documents).
"""
