"""Texts and questions become vectors, by torch or by a model compiled for the processor.

In: `[embedding]`. Out: an `Embedder`, which is a LlamaIndex embedding model.
Read `base.py` (what an embedder is) first, then `factory.py`, which alone knows the runtimes.
"""
