"""One program on this machine, over standard input and output: ``rag-app mcp``."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import anyio
from mcp.server.stdio import stdio_server

from rag_app.config.sections import Config
from rag_app.errors import RagAppError
from rag_app.server.access import ANYONE
from rag_app.server.mcp.server import make_server
from rag_app.server.mcp.tools import READING
from rag_app.server.mcp.visitor import Visitor
from rag_app.server.mcp.writing import ingest_tool
from rag_app.server.service import Service
from rag_app.server.threads import in_thread

_BLOCK = 65_536


def serve_stdio(config: Config, *, write: bool = False, folders: Sequence[Path] = ()) -> None:
    """Serve until standard input ends.

    Parameters
    ----------
    write
        Whether documents may be ingested, too.
    folders
        Below which, besides those that were ingested before.

    Raises
    ------
    KeyboardInterrupt
        If it is told to stop by Ctrl-C or SIGTERM, once everything is given back.
    """
    asyncio.run(_serve(config, write=write, folders=folders))


async def _serve(config: Config, *, write: bool, folders: Sequence[Path]) -> None:
    # Clients that have waited long enough send it; it ends in the same way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    service = Service(config)
    visitor = Visitor(
        service, ANYONE, config.server.public_url, config.vector_store.collection, is_local=True
    )
    tools = [*READING, *([ingest_tool(folders)] if write else [])]
    server = make_server(lambda _: visitor, tools)
    try:
        with _standard_input() as wire:
            # Ours, as a thread of the library's would wait for a line after Ctrl-C, too.
            stdin = cast("anyio.AsyncFile[str]", _Lines(wire))
            async with stdio_server(stdin=stdin) as (read, written):
                warming = asyncio.create_task(_warm(service))
                await server.run(read, written, server.create_initialization_options())
                warming.cancel()
    finally:
        await service.ingests.close()
        service.close()


async def _warm(service: Service) -> None:
    """Open what the first question needs while the client still greets."""
    # Whatever is wrong is told to whoever asks; here nobody has asked yet.
    with suppress(RagAppError, Exception):
        app = await service.app(service.config.vector_store.collection, ANYONE)
        await in_thread(lambda: app.embedder)


@contextmanager
def _standard_input() -> Iterator[int]:
    """Yield a descriptor of standard input, which nothing else can read from meanwhile."""
    wire = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        yield wire
    finally:
        # Not closed: the thread may still wait in it, and another file must not get its number.
        os.dup2(wire, 0)


class _Lines:
    """The lines of a descriptor, read in a thread that nobody waits for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        threading.Thread(target=self._read, name="rag_app-stdin", daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self._lines.get()) is not None:
            yield line.decode("utf-8", "replace")

    def _read(self) -> None:
        rest = b""
        # The loop may end while this thread waits.
        with suppress(RuntimeError, OSError):
            while block := os.read(self._descriptor, _BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._tell(line)
            self._tell(None)

    def _tell(self, line: bytes | None) -> None:
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
