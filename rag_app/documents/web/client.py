"""Asks web servers: politely, within limits, and no server that is not public unless allowed to."""

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from rag_app.config.sections import DocumentsSection
from rag_app.documents.file_types.limits import UnreadableFileError, too_large

AGENT = "rag_app"
"""How we name ourselves: what robots.txt says of it, or of all, holds."""

_MAX_REDIRECTS = 5
_MAX_ROBOTS = 512_000
"""Bytes of a robots.txt that are read (RFC 9309, section 2.5: at least 500 KiB)."""

_MAX_DELAY = 30.0
_TIMEOUT = httpx.Timeout(20.0)
_SECONDS = 120.0
"""Of one answer in all: a server may send a byte at a time."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; `status` 304: what we have is still so."""

    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class WebClient:
    """Gets pages, one at a time and with a pause between two from a host.

    Parameters
    ----------
    section
        The configuration's ``[documents]``.

    Raises
    ------
    UnreadableFileError
        From `get`, with the reason.
    """

    def __init__(self, section: DocumentsSection) -> None:
        self._section = section
        self._most = round(section.max_file_size_mb * 1e6)
        # No proxy of the environment: it would resolve names that are not checked here.
        self._client = httpx.Client(trust_env=False, follow_redirects=False, timeout=_TIMEOUT)
        self._last: dict[str, float] = {}
        self._robots: dict[str, Any] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Get a page that robots.txt lets us get; redirects are followed, each checked anew."""
        for _ in range(_MAX_REDIRECTS + 1):
            robots = self._robots_of(url)
            if not robots.can_fetch(url, AGENT):
                raise UnreadableFileError("its robots.txt asks not to read it")
            answer = self._ask(url, headers or {}, self._most, robots.crawl_delay(AGENT) or 0.0)
            if answer.status not in {301, 302, 303, 307, 308}:
                return answer
            url = urljoin(url, answer.headers.get("location", ""))
        raise UnreadableFileError(f"it redirects more than {_MAX_REDIRECTS} times")

    def _robots_of(self, url: str) -> Any:
        from protego import Protego  # 0.05 s

        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self._robots:
            place = f"{host}/robots.txt"
            try:
                for _ in range(_MAX_REDIRECTS):
                    answer = self._ask(place, {}, _MAX_ROBOTS, 0.0)
                    if not 300 <= answer.status < 400:
                        break
                    place = urljoin(place, answer.headers.get("location", ""))
                refuses = answer.status >= 500
                rules = answer.content.decode("utf-8", "replace") if answer.status < 300 else ""
            except UnreadableFileError as error:
                raise UnreadableFileError(f"its robots.txt cannot be read: {error}") from None
            # RFC 9309, section 2.3.1: without one all may be read; what fails forbids all.
            self._robots[host] = Protego.parse("User-agent: *\nDisallow: /" if refuses else rules)
        return self._robots[host]

    def _ask(self, url: str, headers: Mapping[str, str], most: int, delay: float) -> Answer:
        """Ask once, at an address that was checked, and read at most so many bytes."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise UnreadableFileError(f"no address of a page: {url[:200]}")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise UnreadableFileError(f"no address of a page: {url[:200]}") from None
        self._pause(parts.netloc, delay)
        address = self._address_of(parts.hostname, port)
        shown = f"[{address}]" if ":" in address else address
        # The address that was checked, not the name: that may stand for another by then.
        target = urlunsplit((parts.scheme, f"{shown}:{port}", parts.path or "/", parts.query, ""))
        request = self._client.build_request(
            "GET",
            target,
            headers={"Host": parts.netloc, "User-Agent": AGENT, **headers},
            extensions={"sni_hostname": parts.hostname},
        )
        ends = time.monotonic() + _SECONDS
        try:
            response = self._client.send(request, stream=True)
            try:
                content = bytearray()
                for piece in response.iter_bytes(65_536):
                    content += piece
                    if reason := too_large(len(content), most):
                        raise UnreadableFileError(reason)
                    if time.monotonic() > ends:
                        raise UnreadableFileError("its server takes too long to answer")
            finally:
                response.close()
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise UnreadableFileError(f"its server cannot be asked: {why}") from None
        return Answer(url, response.status_code, response.headers, bytes(content))

    def _pause(self, host: str, delay: float) -> None:
        between = max(self._section.web_seconds_between, min(delay, _MAX_DELAY))
        wait = self._last.get(host, float("-inf")) + between - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._last[host] = time.monotonic()

    def _address_of(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreadableFileError(f"the host {host} is not known: {error}") from None
        addresses = [str(each[4][0]).partition("%")[0] for each in found]
        for address in addresses:
            if not (self._section.web_private or _is_public(address)):
                raise UnreadableFileError(
                    f"{host} is {address}, which is not public; documents.web_private = true "
                    "lets it be asked"
                )
        return addresses[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv4 address in another form is what it stands for.
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is not None or ip in ipaddress.ip_network("64:ff9b::/96"):
            return _is_public(str(inside or ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
    return ip.is_global and not ip.is_multicast
