"""``/v1/files``: uploads, which become documents when a vector store is given them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from rag_app.server.access import Served, Writer
from rag_app.server.uploads import Upload

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.post("")
async def upload(
    file: UploadFile,
    key: Writer,
    service: Served,
    purpose: Annotated[Literal["assistants", "user_data"], Form()] = "assistants",
) -> dict[str, Any]:
    """Keep a file, for a vector store."""
    kept = await run_in_threadpool(service.uploads.add, file.filename or "", file.file, key)
    return _as_json(kept)


@router.get("")
async def list_files(key: Writer, service: Served) -> dict[str, Any]:
    """List the files that the key uploaded; for an admin's all."""
    found = await run_in_threadpool(service.uploads.all, key)
    return {"object": "list", "data": [_as_json(each) for each in found], "has_more": False}


@router.get("/{file_id}")
async def show_file(file_id: str, key: Writer, service: Served) -> dict[str, Any]:
    """Show one of them."""
    return _as_json(await run_in_threadpool(service.uploads.find, file_id, key))


@router.get("/{file_id}/content", response_class=FileResponse)
async def read_file(file_id: str, key: Writer, service: Served) -> FileResponse:
    """Return what was uploaded, as a download: no browser shows it as a page of this server."""
    found = await run_in_threadpool(service.uploads.find, file_id, key)
    return FileResponse(
        found.path,
        filename=found.name,
        media_type="application/octet-stream",
        headers={"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"},
    )


@router.delete("/{file_id}")
async def delete_file(file_id: str, key: Writer, service: Served) -> dict[str, Any]:
    """Delete an upload; what it became in collections stays there."""
    found = await run_in_threadpool(service.uploads.find, file_id, key)
    await run_in_threadpool(service.uploads.remove, found)
    return {"id": file_id, "object": "file", "deleted": True}


def _as_json(each: Upload) -> dict[str, Any]:
    status = each.path.stat()
    return {
        "id": each.id,
        "object": "file",
        "bytes": status.st_size,
        "created_at": int(status.st_mtime),
        "filename": each.name,
        "purpose": "assistants",
        "status": "processed",
    }
