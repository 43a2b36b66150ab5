"""What it means to search: modes, the terms of texts, and how hits are joined, scored and chosen.

In: questions, and anything that is `Searchable`. Out: hits, best first. It knows no database.
Read `modes.py` (how rows are searched) first, then `fusion.py` and `terms.py`.
"""
