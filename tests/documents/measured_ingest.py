"""Ingest a folder in a process of its own, and print what became of each file and what it took.

python -m tests.documents.measured_ingest FOLDER DATABASE

Root becomes "nobody" for it, whom permissions do stop.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import nbformat  # noqa: F401 - readers import it when they need it, which "nobody" may not
import pypdf  # noqa: F401

from rag_app.documents.discover import SourceFile
from rag_app.ingestion import pipeline, run
from rag_app.load import load_config
from rag_app.schema import IngestReport
from tests.conftest import FakeEmbedder, make_files
from tests.documents import hostile

NOBODY = 65_534

_MORE = 3_000_000_000
"""Address space for the whole ingest, so that a failing test does not take the machine with it."""


def memory(field: str) -> int:
    """Return a field of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main(folder: str, database: str) -> None:
    embedder: Any = FakeEmbedder(model_name="fake")

    def ingest(path: Path, name: str) -> IngestReport:
        settings = {
            "vector_store.uri": f"{database}/{name}.db",
            "chunking.size": 200,
            "documents.max_read_seconds": 25,
        }
        return run.ingest(load_config(overrides=settings), [path], make_embedder=lambda: embedder)

    # Everything is imported and warm before it is measured.
    small: dict[str, str | bytes] = {
        "a.html": "<p>x",
        "b.json": "[1]",
        "c.md": "A sentence. " * 999,
        "d.docx": hostile.docx(),
    }
    ingest(make_files(Path(database) / "small", small), "small")
    peak = Path("/proc/self/clear_refs").open("w")  # noqa: SIM115 - "nobody" may not open it
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    taken: dict[str, dict[str, float]] = {}
    prepare = pipeline.Pipeline._prepare

    def measured(self: Any, file: SourceFile) -> Any:
        peak.write("5")  # the peak starts anew
        peak.flush()
        started = time.thread_time()
        try:
            return prepare(self, file)
        finally:
            taken[file.path] = {
                "seconds": time.thread_time() - started,
                "bytes": memory("VmHWM") - start,
            }

    pipeline.Pipeline._prepare = measured  # type: ignore[method-assign]
    limit = memory("VmSize") + _MORE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = memory("VmRSS")
    report = ingest(Path(folder), "hostile")
    print(json.dumps({"report": report.to_dict(), "taken": taken}))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
