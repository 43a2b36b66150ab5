"""Make the collection equal to the folder.

In: paths, and what the rows say of the last time. Out: rows, and an `IngestReport`.
Read `plan.py` (what differs) first, then `run.py` (doing it).
"""
