"""The index over the vectors: changing it in place, and measuring what others would bring.

In: `[index]`, a collection. Out: the index that Milvus built; measurements of others in `bench/`.
Read `apply.py` first, then `bench/`. Which types there are: `rag_app/config/index_types.py`.
"""
