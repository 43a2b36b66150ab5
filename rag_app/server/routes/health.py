"""``/health``, ``/ready`` and ``/metrics``: alive, able to answer, and how much."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rag_app.server.access import Admin, Served

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process answers."""
    # No part is asked: a slow Milvus is no reason to restart the server.
    return {"status": "ok"}


@router.get("/ready")
async def ready(service: Served) -> JSONResponse:
    """Ping every part; 503 with the names of those that fail."""
    failed = await service.ready()
    content = {"status": "unavailable" if failed else "ok", "failed": failed}
    return JSONResponse(content, status_code=503 if failed else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(key: Admin, service: Served) -> Response:
    """Return counters and histograms in Prometheus's text format."""
    infos = await service.collections(key)
    cache = await run_in_threadpool(service.prefix_cache)
    return Response(service.metrics.render(infos, cache), media_type=CONTENT_TYPE_LATEST)
