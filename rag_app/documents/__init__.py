"""Files and folders become LlamaIndex `Document`s, and those `TextNode`s.

In: paths. Out: documents, one per file, and nodes short enough for the embedder; what was skipped,
and why.
Read `discover.py` (which files) first, then `read.py` (one of them), `file_types/` (how each kind
is read), `reading.py` (many of them, by the processes of `worker.py`), `node_parser.py`.
"""
