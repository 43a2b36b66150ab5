"""HTTP: questions, documents and searches in OpenAI's shapes, over one `RagApp` a collection.

In: requests with a key. Out: answers with citations that lead to passages.
Read first: `application.py`, where everything is wired; then `routes/`, a file per family.
"""
