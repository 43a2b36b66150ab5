"""A process that reads files for another one, which nothing in a file can then harm.

python -m rag_app.documents.worker DESCRIPTOR LIMITS

It is asked and answers through a socket, in JSON: what it says is only ever text, even when a file
has taken it over. It imports the readers, and neither LlamaIndex nor a model.
"""

import json
import os
import queue
import resource
import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rag_app.documents.file_types import Limits, UnreadableFileError
from rag_app.documents.read import parse
from rag_app.errors import ExtensionError

READY = b"ready"
"""What a process says first."""

_SPENT = 4
"""A process that kept more than this part of the memory of a file ends: the next file gets all."""


def main(descriptor: int, limits: Limits) -> None:
    """Read the files that are asked for, until whoever asks is gone."""
    questions = Connection(descriptor)
    # What libraries print is nobody's answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    paths: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions, paths), daemon=True).start()
    questions.send_bytes(READY)
    size = _size()
    if size:
        _limit(resource.RLIMIT_AS, size + limits.memory)
    _limit(resource.RLIMIT_CORE, 0)
    # Of what is unpacked to be read, as attachments are.
    _limit(resource.RLIMIT_FSIZE, limits.unpacked)
    while True:
        path = Path(paths.get())
        _limit_time(limits.seconds)
        answer = _read(path, limits)
        spent = _size() - size > limits.memory / _SPENT
        try:
            questions.send_bytes(json.dumps({**answer, "spent": spent}).encode())
        except MemoryError:
            os._exit(1)
        if spent:
            return


def _listen(questions: Connection, paths: "queue.SimpleQueue[str]") -> None:
    """Take what is asked; end the process at once when nobody can ask any more.

    In a thread of its own: the process may be busy with a file when the one that asked is killed.
    """
    try:
        while True:
            paths.put(questions.recv_bytes().decode("utf-8", "surrogateescape"))
    except (EOFError, OSError):
        os._exit(0)


def _read(path: Path, limits: Limits) -> dict[str, Any]:
    warned: list[str] = []
    try:
        text, metadata = parse(path, limits, warned)
    except UnreadableFileError as error:
        return {"reason": str(error), "warned": warned}
    except ExtensionError as error:
        return {"error": [error.message, error.remedy]}
    return {"text": text, "metadata": metadata, "warned": warned}


def _limit_time(seconds: float) -> None:
    """Let the system end this process when a file takes more, whatever code it is in."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Whole seconds, and one more: a reader that looks at its clock says so itself.
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + 2)


def _limit(what: int, most: int) -> None:
    """Set a limit that can be raised again, unless a lower one holds for good."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard < 0 else min(most, hard), hard))


def _size() -> int:
    """Return the bytes of address space that the process has; 0 where that cannot be told."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def command(descriptor: int, limits: Limits) -> list[str]:
    """Return the command that starts a process with its end of a socket."""
    # -P: what lies in the current folder, perhaps the documents', is no code to import.
    return [
        *(sys.executable, "-P", "-m", "rag_app.documents.worker"),
        *(str(descriptor), json.dumps(asdict(limits))),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), Limits(**json.loads(sys.argv[2])))
