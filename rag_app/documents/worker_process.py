"""A worker as the process that asks it sees it: started, asked, and done away with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rag_app.documents.file_types import Limits, UnreadableFileError
from rag_app.documents.file_types.limits import too_slow
from rag_app.documents.read import too_much_memory
from rag_app.documents.worker import READY, command
from rag_app.errors import ExtensionError, ServiceError

_BY_THE_CLOCK = 4
"""Times `Limits.seconds` that a file may take in all: readers may wait, and machines be busy."""

_START_SECONDS = 60.0
_MORE_BYTES = 1_000_000
"""Of an answer, besides the text: metadata and warnings."""


class WorkerProcess:
    """A process of `rag_app.documents.worker`, which reads a file at a time.

    Parameters
    ----------
    limits
        Of each file.
    folder
        For what is unpacked to be read.

    Attributes
    ----------
    connection
        To wait for an answer.
    deadline
        When it has to have answered, by `time.monotonic`.
    """

    def __init__(self, limits: Limits, folder: Path) -> None:
        self._limits = limits
        self._is_ready = False
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command(theirs.fileno(), limits),
                pass_fds=[theirs.fileno()],
                # Out of the group that a terminal's Ctrl-C goes to: whoever asked decides.
                process_group=0,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "TMPDIR": str(folder),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())
        self.deadline = 0.0

    def ask(self, path: Path) -> None:
        """Let it read a file."""
        self._begin(0.0 if self._is_ready else _START_SECONDS)
        with suppress(OSError):  # it died before: `answer` says so
            self.connection.send_bytes(os.fsencode(path))

    def answer(self) -> tuple[dict[str, Any], bool]:
        """Take the answer that is there: what the worker says, and whether it can be asked again.

        Raises
        ------
        UnreadableFileError
            If the file was too much for it.
        ServiceError
            If it never started.
        ExtensionError
            If another package's reader cannot be used.
        """
        try:
            said = self.connection.recv_bytes(8 * self._limits.characters + _MORE_BYTES)
            if said == READY:
                self._is_ready = True
                self._begin()
                return {}, True
            answer: dict[str, Any] = json.loads(said)
        except (EOFError, OSError, ValueError):
            self.kill()
            if not self._is_ready:
                raise ServiceError(
                    "the process that reads files did not start",
                    f"see why: {' '.join(command(0, self._limits)[:4])} 0 '{{}}'",
                ) from None
            raise UnreadableFileError(self._why_it_ended()) from None
        if error := answer.get("error"):
            raise ExtensionError(*error)
        return answer, not answer["spent"]

    def give_up(self) -> UnreadableFileError:
        """End it, as it takes too long by the clock."""
        self.kill()
        return UnreadableFileError(too_slow(self._limits.seconds))

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _begin(self, grace: float = 0.0) -> None:
        self.deadline = time.monotonic() + grace + _BY_THE_CLOCK * self._limits.seconds

    def _why_it_ended(self) -> str:
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return too_slow(self._limits.seconds)
        if code in {1, -signal.SIGKILL}:
            return too_much_memory(self._limits)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its reader crashed ({how}): damaged, or made to do so"
