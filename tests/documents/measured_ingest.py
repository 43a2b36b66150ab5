"""Ingest a folder in a process of its own, and print what became of each file and what it took.

python -m tests.documents.measured_ingest FOLDER DATABASE

Root becomes "nobody" for it, whom permissions do stop.
"""

import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rag_app.documents import reading
from rag_app.documents.worker_process import WorkerProcess
from rag_app.ingestion import run
from rag_app.load import load_config
from rag_app.schema import IngestReport
from tests.conftest import FakeEmbedder, make_files
from tests.documents import hostile

NOBODY = 65_534

_MORE = 3_000_000_000
"""Address space for the whole ingest, so that a failing test does not take the machine with it."""


def memory(field: str, pid: int | str = "self") -> int:
    """Return a field of a process's status, in bytes; 0 of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def processor_seconds(pid: int) -> float:
    """Return what a process has taken of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(folder: str, database: str) -> None:
    embedder: Any = FakeEmbedder(model_name="fake")

    def ingest(path: Path, name: str) -> IngestReport:
        settings = {
            "vector_store.uri": f"{database}/{name}.db",
            "chunking.size": 200,
            "documents.max_seconds": 25,
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
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        # Its processes are root's: "nobody" may not see where Python is. What it may not read is
        # told before they are asked.
        vars(subprocess)["Popen"] = partial(subprocess.Popen, user=0)
    taken: dict[str, dict[str, float]] = {}

    class Measured(WorkerProcess):
        """A process that reads files, watched."""

        def ask(self, path: Path) -> None:
            self.path, self.started = path, processor_seconds(self._process.pid)
            super().ask(path)

        def answer(self) -> tuple[dict[str, Any], bool]:
            # Before it is taken: the process may be gone after it.
            seconds = processor_seconds(self._process.pid) - self.started
            peak = memory("VmHWM", self._process.pid)
            answer = super().answer()
            if answer[0] and peak:
                taken[self.path.relative_to(folder).as_posix()] = {
                    "seconds": seconds,
                    "bytes": peak,
                }
            return answer

    vars(reading)["WorkerProcess"] = Measured
    limit = memory("VmSize") + _MORE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = memory("VmRSS")
    report = ingest(Path(folder), "hostile")
    own = memory("VmHWM") - start
    print(json.dumps({"report": report.to_dict(), "taken": taken, "own": own}))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
