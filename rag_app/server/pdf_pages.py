"""Pages of PDF files as pictures, drawn within limits and kept for a while."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import OrderedDict
from pathlib import Path

from rag_app.server.errors import RequestError

PIXELS = 1600
"""Of a page's longer side: sharp at the width of a panel on a screen of two pixels a point."""
MOST_SECONDS = 20.0
MOST_AT_ONCE = 2
_MOST_KEPT_BYTES = 64_000_000
_WORKER = Path(__file__).with_name("pdf_worker.py")

Version = tuple[str, int, int]
"""A file as it is now: path, when it was changed, size."""


class PdfPages:
    """Draws pages, each once as long as it is asked for. Belongs to one event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Version, int], bytes] = OrderedDict()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def sizes(self, file: Path) -> list[tuple[float, float]]:
        """Return width and height of each page, in points.

        Raises
        ------
        RequestError
            404 if the file is not there, 422 if it cannot be drawn.
        """
        return [(width, height) for width, height in json.loads(await self._drawn(file, 0))]

    async def picture(self, file: Path, page: int) -> bytes:
        """Return a page, from 1, as PNG.

        Raises
        ------
        RequestError
            As `sizes`.
        """
        return await self._drawn(file, page)

    async def _drawn(self, file: Path, page: int) -> bytes:
        try:
            stat = file.stat()
        except OSError:
            message = "the file that this was read from is not there any more"
            raise RequestError(404, message, code="file_gone") from None
        key = ((str(file), stat.st_mtime_ns, stat.st_size), page)
        # Before the wait for room, and again after: meanwhile another may have drawn it.
        if key not in self._kept:
            async with self._room:
                if key not in self._kept:
                    self._keep(key, await _draw(file, page))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple[Version, int], drawn: bytes) -> None:
        self._kept[key] = drawn
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _MOST_KEPT_BYTES:
            self._kept.popitem(last=False)


async def _draw(file: Path, page: int) -> bytes:
    asked = [str(page), str(PIXELS)] if page else []
    # -I: neither the folder nor the environment decides what is imported.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(_WORKER), str(file), *asked), stdout=PIPE, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(MOST_SECONDS):
            drawn, _ = await process.communicate()
    except TimeoutError:
        drawn = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not drawn:
        raise RequestError(422, "this page of the file cannot be drawn", code="cannot_draw")
    return drawn
