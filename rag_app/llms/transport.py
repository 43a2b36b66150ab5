"""The HTTP transport to one or several LLM servers: spread, retry, bound in time and size.

Everything that is sent to a server goes through here, so that LlamaIndex's and OpenAI's clients
above it need no retries of their own. What remains is an `LLMError` that says what happened.

Proxies of the environment are not used: the servers are one's own.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress

import httpx

from rag_app.llms.loop_thread import LoopThread
from rag_app.llms.replicas import CONNECT_SECONDS, Attempts, Replicas

ERROR_BYTES = 65_536
"""Of an answer that is an error, no more is read."""

_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN_OFF = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_SILENT = (httpx.ReadTimeout, httpx.WriteTimeout)


class AsyncReplicaTransport(httpx.AsyncBaseTransport):
    """Sends each request to the first replica that takes it. One event loop only.

    Parameters
    ----------
    keeps_alive
        Whether connections are used again. If not, none is left behind when the event loop ends.
    """

    def __init__(self, replicas: Replicas, *, keeps_alive: bool = False) -> None:
        self._replicas = replicas
        self._inner = httpx.AsyncHTTPTransport(
            # With a limit, who waits too long for a connection would count as not reached.
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=100 if keeps_alive else 0
            )
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises
        ------
        LLMError
            If no replica takes it, or the answer is an error. Reading the response's body raises it
            too: if that breaks off, is too long, or takes too much time.
        """
        deadline = asyncio.get_running_loop().time() + self._replicas.deadline
        try:
            async with asyncio.timeout_at(deadline):
                return await self._send(request, deadline)
        except TimeoutError:
            raise self._replicas.too_slow() from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def look(self, root: str, path: str) -> bytes | None:
        """Return the beginning of what one replica answers; None if it does not."""
        seconds = httpx.Timeout(CONNECT_SECONDS).as_dict()
        request = httpx.Request("GET", root + path, extensions={"timeout": seconds})
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                response = await self._inner.handle_async_request(request)
                found = await beginning(response, self._replicas.most_bytes)
        except (httpx.TransportError, TimeoutError):
            return None
        # A 4xx is a sign of life as well: only vLLM has these paths.
        return found if response.status_code < 500 else None

    async def _send(self, request: httpx.Request, deadline: float) -> httpx.Response:
        attempts = Attempts(self._replicas)
        patience = request.extensions.get("timeout", {}).get("read") or self._replicas.deadline
        for root in attempts:
            # Waiting would end in "too slow", which says less than what the last replica said.
            if asyncio.get_running_loop().time() + attempts.pause >= deadline:
                break
            await asyncio.sleep(attempts.pause)
            if self._replicas.must_show_life(root) and await self.look(root, "/health") is None:
                attempts.still_silent(root)
                continue
            try:
                response = await self._inner.handle_async_request(
                    self._replicas.readdress(request, root)
                )
                if attempts.is_good(root, response.status_code, response.headers):
                    body = _Body(self._replicas, root, response, deadline, patience)
                    return await _begun(response, body)
                said = await beginning(response, ERROR_BYTES)
            except _SILENT:
                attempts.silent(root, patience)
                continue
            except _NOT_REACHED as error:
                attempts.not_reached(root, error)
                continue
            except _BROKEN_OFF as error:
                attempts.hung_up(root, error)
                continue
            attempts.bad_answer(root, response.status_code, response.headers, said)
        raise attempts.error


class ReplicaTransport(httpx.BaseTransport):
    """`AsyncReplicaTransport` for a synchronous client, and for any number of threads."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._lock = threading.Lock()
        self._running: tuple[LoopThread, AsyncReplicaTransport] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raise as `AsyncReplicaTransport` does."""
        thread, transport = self._started()
        # Read here, the body is the same for every replica and needs no event loop.
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.read(),
            extensions=request.extensions,
        )
        response = thread.run(transport.handle_async_request(sent))
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_SyncBody(thread, response),
            extensions=response.extensions,
        )

    def look(self, root: str, path: str) -> bytes | None:
        """Return the beginning of what one replica answers; None if it does not."""
        thread, transport = self._started()
        return thread.run(transport.look(root, path))

    def cancel(self, threads: Collection[int]) -> None:
        """Break off the requests of the threads with these identifiers."""
        if self._running is not None:
            self._running[0].cancel(threads)

    def close(self) -> None:
        """Break off all requests and close all connections."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            thread, transport = running
            thread.close(transport.aclose)

    def _started(self) -> tuple[LoopThread, AsyncReplicaTransport]:
        with self._lock:
            # A forked process has neither its parent's thread nor a right to its connections.
            if self._running is None or self._running[0].process != os.getpid():
                transport = AsyncReplicaTransport(self._replicas, keeps_alive=True)
                self._running = LoopThread(), transport
            return self._running


class _Body(httpx.AsyncByteStream):
    """A body that may be neither longer nor later than the replicas' limits."""

    def __init__(
        self,
        replicas: Replicas,
        root: str,
        response: httpx.Response,
        deadline: float,
        patience: float,
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
        self._replicas = replicas
        self._root = root
        self._response = response
        self._deadline = deadline
        self._patience = patience
        self._chunks = aiter(response.stream)
        self._first: bytes | None = None

    async def begin(self) -> None:
        """Wait for the first chunk; what goes wrong until then is raised as httpx raises it."""
        self._first = await anext(self._chunks, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunk, size = self._first, 0
        while chunk is not None:
            size += len(chunk)
            if size > self._replicas.most_bytes:
                raise self._replicas.too_long(self._root)
            yield chunk
            try:
                async with asyncio.timeout_at(self._deadline):
                    chunk = await anext(self._chunks, None)
            except TimeoutError:
                raise self._replicas.too_slow() from None
            except _SILENT:
                self._replicas.saw(self._root, alive=False, silent=True)
                raise self._replicas.silent(self._root, self._patience) from None
            except _BROKEN_OFF as error:
                raise self._replicas.broken_off(self._root, error) from error

    async def aclose(self) -> None:
        await self._response.aclose()


class _SyncBody(httpx.SyncByteStream):
    def __init__(self, thread: LoopThread, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
        self._thread = thread
        self._response = response
        self._chunks = aiter(response.stream)

    def __iter__(self) -> Iterator[bytes]:
        async def take() -> bytes | None:
            return await anext(self._chunks, None)

        while (chunk := self._thread.run(take())) is not None:
            yield chunk

    def close(self) -> None:
        with suppress(CancelledError):  # all connections are closed already
            self._thread.run(self._response.aclose())


async def _begun(response: httpx.Response, body: _Body) -> httpx.Response:
    """Wait for the first piece of the body: until then the request may go elsewhere."""
    try:
        await body.begin()
    except BaseException:  # cancelled, too: the connection would stay open
        await response.aclose()
        raise
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=body,
        extensions=response.extensions,
    )


async def beginning(response: httpx.Response, most: int) -> bytes:
    """Read no more than so many bytes of a body as it is sent, and close it."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
    found = b""
    try:
        async for chunk in response.stream:
            found += chunk
            if len(found) >= most:
                break
    finally:
        await response.aclose()
    return found[:most]
