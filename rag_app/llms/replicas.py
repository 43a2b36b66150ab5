"""The HTTP transport to one or several vLLM servers: spread, retry, explain.

Everything that is sent to a server goes through here, so that LlamaIndex's and OpenAI's clients
above it need no retries of their own: each request goes to the next replica in turn, past those
that are down, and is sent again with backoff after a connection error, a 429 or a 5xx, never after
another 4xx. What remains is an `LLMError` that says what happened.

Proxies of the environment are not used: the servers are one's own.
"""

import asyncio
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from rag_app.errors import LLMError

AVOID_SECONDS = 10.0
"""How long a replica that refused a connection is tried last."""

BACKOFF_SECONDS = 0.5
"""Before the first retry; doubled for each one after it."""

CONNECT_SECONDS = 5.0
"""To open a connection; the rest of `llm.timeout` is for the answer."""

_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN_OFF = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


class Replicas:
    """The servers' addresses, and which of them were down when last tried. Safe for threads.

    Parameters
    ----------
    urls
        Endpoints with or without their "/v1".
    retries
        How often a request goes round all replicas again.
    has_key
        Whether an API key is sent, for the message on a 401.
    """

    def __init__(self, urls: Sequence[str], retries: int, has_key: bool) -> None:
        self.roots = list(dict.fromkeys(url.rstrip("/").removesuffix("/v1") for url in urls))
        self.has_key = has_key
        self._retries = retries
        self._turn = itertools.count()
        self._avoid_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def order(self) -> list[str]:
        """Return the roots in the order to try them: in rotation, those just seen down last."""
        with self._lock:
            first = next(self._turn) % len(self.roots)
            rotated = self.roots[first:] + self.roots[:first]
            now = time.monotonic()
            return sorted(rotated, key=lambda root: self._avoid_until.get(root, 0.0) > now)

    def saw(self, root: str, *, alive: bool) -> None:
        """Remember whether a replica could be reached."""
        with self._lock:
            if alive:
                self._avoid_until.pop(root, None)
            else:
                self._avoid_until[root] = time.monotonic() + AVOID_SECONDS

    def attempts(self) -> Iterator[tuple[str, float]]:
        """Yield each replica to try with the seconds to wait before it."""
        for round_number in range(self._retries + 1):
            # Jitter, so that many clients of a restarted server do not come back as one.
            wait = BACKOFF_SECONDS * 2 ** (round_number - 1) * random.uniform(0.75, 1.25)  # noqa: S311
            for position, root in enumerate(self.order()):
                yield root, wait if round_number and not position else 0.0

    def readdress(self, request: httpx.Request, root: str) -> httpx.Request:
        """Copy a request that was built for the first root to another one."""
        url = httpx.URL(root + str(request.url).removeprefix(self.roots[0]))
        headers = request.headers.copy()
        headers["Host"] = url.netloc.decode("ascii")
        return httpx.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    def unreachable(self, error: Exception) -> LLMError:
        """Say that no replica could be reached."""
        return LLMError(
            f"no LLM server answers at {' or '.join(self.roots)}: "
            f"{str(error) or type(error).__name__}",
            "start it (rag-app llm serve), or set llm.base_url to where it runs",
        )

    def explain(self, root: str, status: int, content_type: str, body: bytes) -> LLMError:
        """Turn an answer that is none into an error that names it and the remedy."""
        if status in {401, 403}:
            return LLMError(
                f"the server at {root} answers {status}: "
                + ("it refuses llm.api_key" if self.has_key else "it asks for an API key"),
                "set RAG_APP_LLM__API_KEY to the key that the server was started with",
            )
        if "html" in content_type:
            return LLMError(
                f"{root} answers with a web page ({_title(body)!r}, status {status}), not as a "
                "vLLM server",
                "set llm.base_url to the vLLM server's address, e.g. http://127.0.0.1:8000/v1",
            )
        said = _server_message(body)
        if status == 404:
            remedy = "check llm.model and llm.base_url"
        elif status == 400:
            remedy = "lower llm.max_tokens, or change what the message names"
        else:
            remedy = "look into the server's log"
        return LLMError(f"the server at {root} answers {status}: {said}", remedy)


class ReplicaTransport(httpx.BaseTransport):
    """`Replicas` for a synchronous client."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._inner = httpx.HTTPTransport(limits=httpx.Limits(max_connections=None))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first replica that takes it.

        Raises
        ------
        LLMError
            If none does, or the answer is an error.
        """
        outcome = _Outcome(self._replicas, request)
        for root, wait in self._replicas.attempts():
            if not outcome.may_wait(wait):
                break
            time.sleep(outcome.pause(wait))
            try:
                response = self._inner.handle_request(self._replicas.readdress(request, root))
            except (*_NOT_REACHED, *_BROKEN_OFF) as error:
                outcome.no_answer(root, error)
                continue
            if outcome.is_good(root, response):
                return response
            try:
                body = response.read()
            finally:
                response.close()
            outcome.bad_answer(root, response, body)
        raise outcome.error

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


class AsyncReplicaTransport(httpx.AsyncBaseTransport):
    """`Replicas` for an asynchronous client.

    Connections are not kept alive, so that none is left behind when its event loop ends.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._inner = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first replica that takes it; raise as `ReplicaTransport` does."""
        outcome = _Outcome(self._replicas, request)
        for root, wait in self._replicas.attempts():
            if not outcome.may_wait(wait):
                break
            await asyncio.sleep(outcome.pause(wait))
            try:
                response = await self._inner.handle_async_request(
                    self._replicas.readdress(request, root)
                )
            except (*_NOT_REACHED, *_BROKEN_OFF) as error:
                outcome.no_answer(root, error)
                continue
            if outcome.is_good(root, response):
                return response
            try:
                body = await response.aread()
            finally:
                await response.aclose()
            outcome.bad_answer(root, response, body)
        raise outcome.error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


class _Outcome:
    """What became of a request so far, and whether there is time for more."""

    def __init__(self, replicas: Replicas, request: httpx.Request) -> None:
        self.error = LLMError("the request was not sent")
        self._replicas = replicas
        seconds = request.extensions.get("timeout", {}).get("read")
        self._deadline = time.monotonic() + (seconds or float("inf"))
        self._asked_wait = 0.0

    def pause(self, wait: float) -> float:
        """Seconds to sleep: our backoff, or what the server asked for if that is longer."""
        return max(wait, self._asked_wait) if wait else 0.0

    def may_wait(self, wait: float) -> bool:
        return time.monotonic() + self.pause(wait) < self._deadline

    def no_answer(self, root: str, error: Exception) -> None:
        self._replicas.saw(root, alive=False)
        self.error = self._replicas.unreachable(error)

    def is_good(self, root: str, response: httpx.Response) -> bool:
        self._replicas.saw(root, alive=True)
        kind = response.headers.get("content-type", "")
        return response.status_code < 400 and ("json" in kind or "event-stream" in kind)

    def bad_answer(self, root: str, response: httpx.Response, body: bytes) -> None:
        """Keep the error if a retry may help, raise it if not."""
        status = response.status_code
        kind = response.headers.get("content-type", "")
        self.error = self._replicas.explain(root, status, kind, body)
        if status != 429 and status < 500:
            raise self.error
        after = response.headers.get("retry-after", "")
        self._asked_wait = float(after) if after.isdigit() else 0.0


def _server_message(body: bytes) -> str:
    """Return the message in vLLM's error object, or the body's start."""
    try:
        found: Any = json.loads(body)
        found = found.get("error", found)
        return str(found["message"] if "message" in found else found.get("detail", found))
    except (ValueError, AttributeError, TypeError):
        return body[:200].decode("utf-8", "replace") or "nothing"


def _title(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    found = re.search(r"<title>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
    return found[1] if found else text[:60].strip()
