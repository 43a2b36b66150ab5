"""``/health`` and ``/ready``: alive, and able to answer."""

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from rag_app.server.access import Served

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(service: Served) -> JSONResponse:
    """Ping every part; 503 with the names of those that fail."""
    failed: dict[str, Any] = await run_in_threadpool(service.ping)
    if service.is_draining:
        failed["server"] = "draining"
    content = {"status": "unavailable" if failed else "ok", "failed": failed}
    return JSONResponse(content, status_code=503 if failed else 200)
