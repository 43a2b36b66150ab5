"""``/mcp``: the documents for agents, by the Model Context Protocol's streamable HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rag_app.server.access import Reader, Served, base_url
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.service import Service, not_found

if TYPE_CHECKING:  # of the extra "mcp"
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from rag_app.server.mcp.server import Context
    from rag_app.server.mcp.visitor import Visitor

_MOST_SESSIONS = 1000
"""Each keeps a task; one that is not used for half an hour ends."""


@asynccontextmanager
async def _sessions(application: FastAPI) -> AsyncIterator[None]:
    """Keep the sessions of clients, as long as the server runs."""
    try:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from rag_app.server.mcp.server import make_server
    except ModuleNotFoundError:
        application.state.mcp = None
        yield
        return
    sessions = StreamableHTTPSessionManager(make_server(_visitor_of), max_sessions=_MOST_SESSIONS)
    application.state.mcp = sessions
    async with sessions.run():
        yield


router = APIRouter(lifespan=_sessions)


@router.api_route("/mcp", methods=["POST", "DELETE"], include_in_schema=False, response_model=None)
async def handle(request: Request, key: Reader, service: Served, collection: str = "") -> Response:
    """Answer a client. Without GET, which is for what a server says unasked."""
    sessions = request.app.state.mcp
    if sessions is None:
        message = "this server does not speak MCP: the package mcp is not installed (extra mcp)"
        raise RequestError(501, message, code="no_mcp")
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    from rag_app.server.mcp.visitor import Visitor

    name = collection or _usual_collection(service, key)
    if not key.may_use(name):
        raise not_found(name)
    # A session is its key's: whoever learns its id cannot go on with it.
    token = AccessToken(token=key.digest, client_id=key.digest or "anyone", scopes=[])
    request.scope["user"] = AuthenticatedUser(token)
    request.state.visitor = Visitor(service, key, base_url(request, service), name)
    return _Passed(sessions)


def _visitor_of(context: "Context") -> "Visitor":
    # Of this message's request, not of the session's first: a key's filter may have changed.
    assert context.request is not None  # noqa: S101 - the transport's promise
    visitor: Visitor = context.request.state.visitor
    return visitor


def _usual_collection(service: Service, key: Key) -> str:
    """Return the configured collection, or the first that a key may use in its place."""
    configured = service.config.vector_store.collection
    return configured if key.may_use(configured) else key.collections[0]


class _Passed(Response):
    """A response that is left to the protocol's own transport."""

    def __init__(self, sessions: "StreamableHTTPSessionManager") -> None:
        super().__init__()
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it answer."""
        await self._sessions.handle_request(scope, receive, send)
