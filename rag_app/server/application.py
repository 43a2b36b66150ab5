"""The application: routes, guards and errors, wired in one function."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from rag_app import __version__
from rag_app.config.sections import Config
from rag_app.server import errors
from rag_app.server.access import check_exposure
from rag_app.server.guards import BodyGuard, HostGuard
from rag_app.server.metrics import RequestMetrics
from rag_app.server.routes import all_routers
from rag_app.server.service import Service
from rag_app.server.tracing import RequestSpans, Tracing, make_provider

if TYPE_CHECKING:  # of the extra "otel"
    from opentelemetry.sdk.trace import TracerProvider


def make_application(config: Config, provider: "TracerProvider | None" = None) -> FastAPI:
    """Make the ASGI application of a configuration; its parts are closed when it ends.

    Parameters
    ----------
    provider
        OpenTelemetry's, to trace with; None: one that exports, where ``server.tracing`` says so.

    Raises
    ------
    ConfigError
        If it would let other machines ask without a key.
    """
    service = Service(config)
    check_exposure(config, service.keys.all())
    if provider is None and config.server.tracing:
        provider = make_provider()
    tracing = Tracing(provider) if provider is not None else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        # In this order: ingests write through the parts, and what the
        # parts do to the end is traced.
        await service.ingests.close()
        await run_in_threadpool(service.close)
        if tracing is not None:
            await run_in_threadpool(tracing.close)

    application = FastAPI(
        title="rag_app",
        description="Grounded answers from your own documents, in OpenAI's shapes.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    application.state.service = service
    for router in all_routers():
        application.include_router(router)
    errors.install(application)
    _guard(application, service, tracing)
    return application


def _guard(application: FastAPI, service: Service, tracing: Tracing | None) -> None:
    """Put around the routes what sees each request before them."""
    config = service.config
    # Each stands around those before it: the last one sees a request first.
    application.add_middleware(RequestMetrics, metrics=service.metrics)
    if tracing is not None:
        application.add_middleware(RequestSpans, provider=tracing.provider)
    application.add_middleware(
        BodyGuard, section=config.server, uploads_mb=config.documents.max_file_size_mb
    )
    # Around the body's guard: what another site's page sends is not read at all.
    application.add_middleware(HostGuard, section=config.server)
    if config.server.cors_origins:
        application.add_middleware(
            # Outermost: a preflight has no route of its own, and a refusal without these headers
            # could not be read by the page.
            CORSMiddleware,
            allow_origins=[each.lower().rstrip("/") for each in config.server.cors_origins],
            allow_methods=["GET", "POST", "DELETE"],
            # Those of MCP: a page that speaks it has to read its session's id, too.
            allow_headers=[
                *("Authorization", "Content-Type"),
                *("Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name"),
            ],
            expose_headers=["Mcp-Session-Id"],
        )
