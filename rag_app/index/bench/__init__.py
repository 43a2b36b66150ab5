"""What an index type costs and finds, measured on a scratch copy of the vectors.

In: the collection's vectors, or made-up ones. Out: recall, latency, build time, size; the cheapest
that will do.
Read `bench.py` first, then `tune.py`.
"""
