"""A question becomes the nodes that may answer it, best first, with scores.

In: a question, `[retrieval]`. Out: LlamaIndex `NodeWithScore`s.
Read `retriever.py` first, then `expansion.py` and `reranker.py`.
"""
