"""One or several LLM servers: which to ask next, how often, and what their failures mean.

Each request goes to the next replica in turn, past those that are down, and is sent again with
backoff after a connection error, a 429 or a 5xx, never after another 4xx. One that was not answered
in time is sent to one other replica. How it is sent is `rag_app.llms.transport`'s business.
"""

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from rag_app.errors import ConfigError, LLMError, LLMUnavailableError

AVOID_SECONDS = 10.0
"""How long a replica that could not be reached, or was silent, is tried last."""

BACKOFF_SECONDS = 0.5
"""Before the first retry; doubled for each one after it."""

CONNECT_SECONDS = 5.0
"""To open a connection, and for what a server answers at once if it is well."""

MOST_BYTES = 8 * 2**20
"""Of any reply, and what a list of models may have at most."""

BYTES_PER_TOKEN = 1024
"""What is allowed for each token of an answer on top: streamed, one takes about 250."""


class RefusedRequestError(LLMError):
    """A request that a server answers with a 4xx.

    Parameters
    ----------
    status
        HTTP's number.
    said
        The server's own words.
    """

    def __init__(self, message: str, remedy: str, status: int, said: str) -> None:
        super().__init__(message, remedy)
        self.status = status
        self.said = said

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would make it anew with its message alone.
        return RefusedRequestError, (self.message, self.remedy, self.status, self.said)


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
    deadline
        Seconds for a request with its retries and the whole of its answer.
    most_bytes
        Longest answer.

    Raises
    ------
    ConfigError
        If one is no URL.
    """

    def __init__(
        self,
        urls: Sequence[str],
        retries: int,
        has_key: bool,
        *,
        deadline: float,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.roots = list(dict.fromkeys(_root(url) for url in urls))
        self.has_key = has_key
        self.deadline = deadline
        self.most_bytes = most_bytes
        self.retries = retries
        self._turn = itertools.count()
        self._avoid_until: dict[str, float] = {}
        self._silent: set[str] = set()
        self._lock = threading.Lock()

    def order(self) -> list[str]:
        """Return the roots in the order to try them: in rotation, those just seen down last."""
        with self._lock:
            first = next(self._turn) % len(self.roots)
            rotated = self.roots[first:] + self.roots[:first]
            now = time.monotonic()
            # The sort is stable: those that are up stay in rotation.
            return sorted(rotated, key=lambda root: self._avoid_until.get(root, 0.0) > now)

    def saw(self, root: str, *, alive: bool, silent: bool = False) -> None:
        """Remember whether a replica could be reached, and whether it accepted and said nothing."""
        with self._lock:
            if alive:
                self._avoid_until.pop(root, None)
                self._silent.discard(root)
            else:
                self._avoid_until[root] = time.monotonic() + AVOID_SECONDS
                if silent:
                    self._silent.add(root)

    def must_show_life(self, root: str) -> bool:
        """Whether a replica was silent, so that it is probed before another request waits for it.

        Whoever asks has to probe it: others avoid it meanwhile.
        """
        with self._lock:
            # The only one is asked in any case.
            if root not in self._silent or len(self.roots) == 1:
                return False
            self._avoid_until[root] = time.monotonic() + AVOID_SECONDS
            return True

    def readdress(self, request: httpx.Request, root: str) -> httpx.Request:
        """Copy a request that was built for the first root to another one."""
        base = httpx.URL(root)
        here = httpx.URL(self.roots[0]).raw_path.rstrip(b"/")
        path = base.raw_path.rstrip(b"/") + request.url.raw_path.removeprefix(here)
        url = base.copy_with(raw_path=path)
        headers = request.headers.copy()
        headers["Host"] = url.netloc.decode("ascii")
        headers["Accept-Encoding"] = "identity"  # a small compressed answer may be a huge one
        return httpx.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    def unreachable(self, error: Exception) -> LLMError:
        """Say that no replica could be reached."""
        return LLMUnavailableError(
            f"no LLM server answers at {' or '.join(self.roots)}: "
            f"{str(error) or type(error).__name__}",
            "start it (rag-app llm serve), or set llm.base_url to where it runs",
        )

    def hung_up(self, root: str, error: Exception) -> LLMError:
        """Say that a replica closed the connection before it had answered."""
        return LLMError(
            f"the server at {root} hung up before it answered: "
            f"{str(error) or type(error).__name__}",
            "see whether it still runs (its log says why), and ask again",
        )

    def silent(self, root: str, seconds: float) -> LLMError:
        """Say that a replica accepted a request, and then nothing came for too long."""
        return LLMError(
            f"the server at {root} was silent for {seconds:g} seconds",
            "raise llm.timeout, lower llm.max_tokens, or look into the server's log",
        )

    def too_slow(self) -> LLMError:
        """Say that a request has taken all of its time."""
        return LLMError(
            f"{' or '.join(self.roots)} did not finish an answer within {self.deadline:g} seconds",
            "raise llm.deadline, lower llm.max_tokens, or look into the server's log",
        )

    def too_long(self, root: str) -> LLMError:
        """Say that an answer has no end."""
        return LLMError(
            f"the answer of the server at {root} is longer than {self.most_bytes:,} bytes",
            "look into the server's log: no answer of llm.max_tokens tokens is that long",
        )

    def broken_off(self, root: str, why: Exception | str) -> LLMError:
        """Say that an answer has no end because the server has left."""
        return LLMError(
            f"the server at {root} broke off in the middle of the answer: {why}",
            "see whether it still runs (its log says why it stopped), and ask again",
        )

    def explain(self, root: str, status: int, headers: Mapping[str, str], body: bytes) -> LLMError:
        """Turn an answer that is none into an error that names it and the remedy."""
        if status in {401, 403}:
            return LLMUnavailableError(
                f"the server at {root} answers {status}: "
                + ("it refuses llm.api_key" if self.has_key else "it asks for an API key"),
                "set RAG_APP_LLM__API_KEY to the key that the server was started with",
            )
        if "html" in headers.get("content-type", ""):
            return LLMUnavailableError(
                f"{root} answers with a web page ({_title(body)!r}, status {status}), not as a "
                "vLLM server",
                "set llm.base_url to the vLLM server's address, e.g. http://127.0.0.1:8000/v1",
            )
        if headers.get("content-encoding", "identity") != "identity":
            return LLMError(
                f"the server at {root} sends its answers compressed "
                f"({headers['content-encoding']}), which was not asked for",
                "turn that off, in the server or in the proxy before it",
            )
        said = _server_message(body)
        message = f"the server at {root} answers {status}: {said}"
        if (wait := asked_wait(headers)) is not None:
            message += f"; it asks to wait {wait:.0f} seconds (Retry-After)"
        if status == 404:
            remedy = "check llm.model and llm.base_url"
        elif status == 400:
            remedy = "lower llm.max_tokens, or change what the message names"
        else:
            remedy = "look into the server's log"
        if 400 <= status < 500:
            return RefusedRequestError(message, remedy, status, said)
        return LLMError(message, remedy)


class Attempts:
    """The replicas to try with one request, and what came of those that were tried.

    Attributes
    ----------
    error
        What to raise when there are no more.
    pause
        Seconds to wait before the next one.
    """

    def __init__(self, replicas: Replicas) -> None:
        self.error = LLMError("the request was not sent", "raise llm.deadline")
        self.pause = 0.0
        self._replicas = replicas
        self._asked_wait = 0.0
        self._were_silent: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        for round_number in range(self._replicas.retries + 1):
            # Jitter, so that many clients of a restarted server do not come back as one.
            wait = BACKOFF_SECONDS * 2 ** (round_number - 1) * random.uniform(0.75, 1.25)  # noqa: S311
            # Before a round, not within one: there another replica is asked at once.
            pause = max(wait, self._asked_wait) if round_number else 0.0
            for root in self._replicas.order():
                if len(self._were_silent) > 1:
                    return  # sent elsewhere once, and that is enough
                if root not in self._were_silent:
                    self.pause, pause = pause, 0.0
                    yield root

    def not_reached(self, root: str, error: Exception) -> None:
        """Note that a replica could not be reached."""
        self._replicas.saw(root, alive=False)
        # Else what to tell is that one took the request and was silent: another only was away.
        if not self._were_silent:
            self.error = self._replicas.unreachable(error)

    def hung_up(self, root: str, error: Exception) -> None:
        """Note that a replica took the request and closed the connection."""
        self._replicas.saw(root, alive=False)
        self.error = self._replicas.hung_up(root, error)

    def silent(self, root: str, seconds: float) -> None:
        """Note that a replica took the request and did not begin to answer."""
        self._replicas.saw(root, alive=False, silent=True)
        self._were_silent.add(root)
        self.error = self._replicas.silent(root, seconds)

    def still_silent(self, root: str) -> None:
        """Note that a replica that was silent for another request shows no life either."""
        self.not_reached(root, LLMError(f"{root} accepts connections and does not answer"))

    def is_good(self, root: str, status: int, headers: Mapping[str, str]) -> bool:
        """Whether an answer is one. Any answer shows that the replica is alive."""
        self._replicas.saw(root, alive=True)
        kind = headers.get("content-type", "")
        plain = headers.get("content-encoding", "identity") == "identity"
        return status < 400 and plain and ("json" in kind or "event-stream" in kind)

    def bad_answer(self, root: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep the error if a retry may help, raise it if not."""
        self.error = self._replicas.explain(root, status, headers, body)
        if status != 429 and status < 500:
            raise self.error
        self._asked_wait = asked_wait(headers) or 0.0


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, which may be a number or a date."""
    after = headers.get("retry-after", "").strip()
    if after.isdecimal():
        return float(after[:9])  # longer than any deadline, and no number too large for a float
    try:
        until = parsedate_to_datetime(after)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _root(url: str) -> str:
    """Return an endpoint's address as httpx writes it: lower case, without a default port."""
    try:
        written = str(httpx.URL(url.strip()))
    except httpx.InvalidURL as error:
        raise ConfigError(
            f"{url!r} is no server's address: {error}",
            "set llm.base_url, e.g. to http://127.0.0.1:8000/v1",
        ) from None
    return written.rstrip("/").removesuffix("/v1").rstrip("/")


def _server_message(body: bytes) -> str:
    """Return the message in vLLM's error object, or the body's start."""
    try:
        found: Any = json.loads(body)
        found = found.get("error", found)
        return str(found["message"] if "message" in found else found.get("detail", found))[:500]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return body[:200].decode("utf-8", "replace") or "nothing"


def _title(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    start = text.lower().find("<title>")
    return (
        text[start + len("<title>") :].partition("<")[0].strip()[:100]
        if start >= 0
        else (text[:60].strip())
    )
