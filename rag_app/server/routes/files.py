"""``/v1/files``: uploads, which become documents when a vector store is given them."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse

from rag_app.server.access import Served, Writer
from rag_app.server.errors import RequestError
from rag_app.server.threads import in_thread
from rag_app.server.uploads import Upload

router = APIRouter(prefix="/v1/files", tags=["files"])


_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": ["assistants", "user_data"]},
    },
}


@router.post(
    "",
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def upload(request: Request, key: Writer, service: Served) -> dict[str, Any]:
    """Keep a file, for a vector store."""
    # Read here and not by FastAPI, which would take it in before it knows whose key it is.
    async with request.form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose", "assistants")
        if not isinstance(file, UploadFile):
            code = "missing_required_parameter"
            raise RequestError(400, "file: a file is required", code=code, param="file")
        if purpose not in _FORM["properties"]["purpose"]["enum"]:
            message = f"purpose {purpose!r} is not supported: use assistants or user_data"
            raise RequestError(400, message, code="invalid_value", param="purpose")
        kept = await run_in_threadpool(service.uploads.add, file.filename or "", file.file, key)
    return _as_json(kept)


@router.get("")
async def list_files(key: Writer, service: Served) -> dict[str, Any]:
    """List the files that the key uploaded; for an admin's all."""
    async with service.admission.working():
        found = await in_thread(lambda: service.uploads.all(key))
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
