"""What stands before every route: the Host and Origin of a browser, and the size of a body."""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_app.config.server import ServerSection
from rag_app.server.errors import RequestError, response_of


class HostGuard:
    """Lets through what was sent to this server by a name of its own.

    A page of elsewhere can make its own name lead to 127.0.0.1 (DNS rebinding); a browser then
    sends that name as Host. An address is nobody's name and always good. A page of another origin
    is refused, but for ``server.cors_origins``.
    """

    def __init__(self, app: ASGIApp, section: ServerSection) -> None:
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), section.host.lower()}
        self._names |= {name.lower() for name in section.allowed_hosts}
        if section.public_url:
            self._names.add((urlsplit(section.public_url).hostname or "").lower())
        self._origins = {origin.lower().rstrip("/") for origin in section.cors_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the application, or let it."""
        if scope["type"] == "http" and (error := self._fault(Headers(scope=scope))):
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _fault(self, headers: Headers) -> RequestError | None:
        # Of two Host headers a proxy may heed one and this server the other.
        hosts = headers.getlist("host")
        name = _hostname(hosts[0]) if len(hosts) == 1 else ""
        if not name or not (name in self._names or _is_address(name)):
            message = "the request's Host is none of this server's names (server.allowed_hosts)"
            return RequestError(421, message, code="unknown_host")
        origin = headers.get("origin")
        # A browser names the origin of whatever changes something; programs name none.
        if origin is None or origin.lower() in self._origins:
            return None
        # With the port: another port is another program. A page without
        # an origin says "null", which is no Host.
        if _place(origin) != hosts[0].lower():
            message = "pages of another server may not call this one (server.cors_origins)"
            return RequestError(403, message, code="unknown_origin")
        return None


class BodyGuard:
    """Refuses bodies over a size, by what they say and by what they send."""

    def __init__(self, app: ASGIApp, section: ServerSection, uploads_mb: float) -> None:
        self._app = app
        self._most = int(section.max_body_mb * 1e6)
        self._most_of_uploads = int(uploads_mb * 1e6) + 100_000  # the form around the file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the application, or let it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == "/v1/files"
        most = self._most_of_uploads if is_upload else self._most
        error = RequestError(413, f"the request has more than {most:,} bytes", code="too_large")
        said = Headers(scope=scope).get("content-length", "")
        # The length is the client's word, so that it can only refuse
        # early; `counted` is what holds.
        if said.isdecimal() and int(said) > most:
            await response_of(error)(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _TooLargeError
            return message

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, sent)
        except _TooLargeError:
            # Once an answer has begun its status is sent: all that is left is to end it.
            if not started:
                await response_of(error)(scope, receive, send)


# FastAPI makes a 400 of any `Exception` that comes while it reads a body.
class _TooLargeError(BaseException):
    """A body that grew too large: no handler of ordinary errors is to answer it."""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
