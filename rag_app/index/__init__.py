"""The index over the vectors: which types there are, and changing them in place.

In: `[index]`. Out: the index that Milvus built; measurements of others in `bench/`.
Read `types.py` (the table) first, then `build.py` (the calls) and `apply.py`.
"""
