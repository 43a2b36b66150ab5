"""``/v1/vector_stores/{id}/files``: a collection's documents; what is uploaded is put in here."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from rag_app.app import RagApp
from rag_app.errors import InputError
from rag_app.milvus.rows import StoredDocument
from rag_app.milvus.stored_documents import remove_documents
from rag_app.server.access import Reader, Served, Writer, filters_of, of_document
from rag_app.server.errors import RequestError
from rag_app.server.events import event
from rag_app.server.ingests import Ingest, as_json, error_of
from rag_app.server.keys import Key
from rag_app.server.service import Service, vector_store_not_found
from rag_app.server.threads import in_thread
from rag_app.server.uploads import file_id as id_of

router = APIRouter(prefix="/v1/vector_stores/{vector_store_id}/files", tags=["vector stores"])


class Chunking(BaseModel):
    """How the file is split: as the collection is."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["auto"]


class AddRequest(BaseModel):
    """OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    file_id: str
    chunking_strategy: Chunking | None = None


@router.post("")
async def add(
    vector_store_id: str, body: AddRequest, key: Writer, service: Served
) -> dict[str, Any]:
    """Begin to ingest an upload; its state is asked for, or watched at ``…/events``."""
    app = await _app(vector_store_id, key, service, to_write=True)
    upload = await run_in_threadpool(service.uploads.find, body.file_id, key)
    return _of_ingest(service.ingests.begin(app, vector_store_id, upload), app)


@router.get("")
async def list_files(
    vector_store_id: str,
    key: Reader,
    service: Served,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None,
) -> dict[str, Any]:
    """List documents by path, and before them what is on its way or failed."""
    is_new = bool(service.ingests.of(vector_store_id))  # perhaps nothing was ingested before
    async with service.admission.working():
        app = await _app(vector_store_id, key, service, to_write=is_new)
        documents = await in_thread(lambda: documents_of(app, key, is_new=is_new))
    stored = [_of_document(each, app) for each in documents.values()]
    there = {each["id"] for each in stored}
    under_way = [
        _of_ingest(each, app)
        for each in service.ingests.of(vector_store_id)
        # What is ingested again is both; it is listed once, as the document that it is already.
        if each.upload.id not in there and each.upload.may_be_seen_by(key)
    ]
    rows = [row for row in under_way + stored if filter in {None, row["status"]}]
    if order == "asc":
        rows.reverse()
    if after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise RequestError(400, f"there is no file {after!r} here", param="after")
        rows = rows[places[0] + 1 :]
    page = rows[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rows) > limit,
    }


@router.get("/{file_id}")
async def show_file(
    vector_store_id: str, file_id: str, key: Reader, service: Served
) -> dict[str, Any]:
    """Show a document, or how far it is on its way."""
    ingest = _ingest(vector_store_id, file_id, key, service)
    async with service.admission.working():
        app = await _app(vector_store_id, key, service, to_write=ingest is not None)
        if ingest is not None:
            return _of_ingest(ingest, app)
        return _of_document(await _find(app, file_id, key), app)


@router.get("/{file_id}/events", response_model=None)
async def watch_file(
    vector_store_id: str, file_id: str, key: Writer, service: Served
) -> StreamingResponse:
    """Watch a file on its way: an event at each step, until it is there or has failed."""
    # Its first file may only be about to make the collection.
    await _app(vector_store_id, key, service, to_write=True)
    ingest = _ingest(vector_store_id, file_id, key, service)
    if ingest is None:
        raise RequestError(404, f"there is no file {file_id!r} on its way", code="file_not_found")

    async def events(watched: Ingest) -> AsyncGenerator[str, None]:
        async for state in watched.watch():
            yield event(as_json(state), "progress")

    return StreamingResponse(events(ingest), media_type="text/event-stream")


@router.delete("/{file_id}")
async def remove(
    vector_store_id: str, file_id: str, key: Writer, service: Served
) -> dict[str, Any]:
    """Remove a document from the collection; an upload stays until it is deleted itself."""
    app = await _app(vector_store_id, key, service)
    if _ingest(vector_store_id, file_id, key, service):
        # Before its turn is waited for, or the whole file would be ingested first.
        service.ingests.forget(vector_store_id, file_id)
    async with service.ingests.turn(vector_store_id):
        document = await _find(app, file_id, key)
        await run_in_threadpool(remove_documents, app.config, [document.id])
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


async def _app(collection: str, key: Key, service: Service, *, to_write: bool = False) -> RagApp:
    return await service.app(collection, key, to_write=to_write, missing=vector_store_not_found)


def _ingest(collection: str, file_id: str, key: Key, service: Service) -> Ingest | None:
    ingest = service.ingests.find(collection, file_id)
    if ingest is None or not ingest.upload.may_be_seen_by(key):
        return None
    return ingest


async def _find(app: RagApp, file_id: str, key: Key) -> StoredDocument:
    of_it = filters_of(key, of_document(file_id.removeprefix("file-")))
    found = await in_thread(lambda: list(app.store.documents(of_it).values()))
    if not found or not file_id.startswith("file-"):
        raise RequestError(404, f"there is no file {file_id!r}", code="file_not_found")
    return found[0]


def documents_of(app: RagApp, key: Key, *, is_new: bool = False) -> dict[str, StoredDocument]:
    """Return the documents that a key may see, by id, each with the rows that it may see."""
    try:
        return app.store.documents(filters_of(key))
    except InputError:
        if is_new:  # its first file is on its way, or has failed
            return {}
        raise


def _of_ingest(ingest: Ingest, app: RagApp) -> dict[str, Any]:
    return {
        **_head(ingest.upload.id, ingest.collection, int(ingest.made), app),
        "status": ingest.status,
        "last_error": error_of(ingest),
        "usage_bytes": 0,
        "attributes": {},
    }


def _of_document(document: StoredDocument, app: RagApp) -> dict[str, Any]:
    return {
        **_head(id_of(document.id), app.config.vector_store.collection, 0, app),
        "status": "completed",
        "last_error": None,
        "usage_bytes": document.size,
        "attributes": {"path": document.path, "title": document.title, "type": document.type},
    }


def _head(id_: str, collection: str, made: int, app: RagApp) -> dict[str, Any]:
    chunking = app.config.chunking
    return {
        "id": id_,
        "object": "vector_store.file",
        "created_at": made,
        "vector_store_id": collection,
        "chunking_strategy": {
            "type": "static",
            "static": {
                "max_chunk_size_tokens": chunking.size,
                "chunk_overlap_tokens": chunking.overlap,
            },
        },
    }
