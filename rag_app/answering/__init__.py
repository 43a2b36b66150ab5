"""Nodes become an answer: packed into the window, best last, asked once, cited.

In: a question and its nodes, best first. Out: a LlamaIndex `Response` with sources and ledger.
Read `base.py` first, then `synthesizer.py`, `packing.py` (what fits) and `prompts.py`.
"""
