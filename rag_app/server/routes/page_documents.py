"""``/page/collections/…``: what the page shows of a collection and its documents."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from rag_app.app import RagApp
from rag_app.documents.discover import SourceFile
from rag_app.errors import CollectionMismatchError
from rag_app.index.apply import show_index
from rag_app.milvus.admin import show_collection
from rag_app.milvus.rows import StoredDocument
from rag_app.server.access import Reader, Served, Writer, filters_of, of_document
from rag_app.server.errors import RequestError
from rag_app.server.ingests import as_json
from rag_app.server.keys import Key
from rag_app.server.routes.vector_store_files import documents_of
from rag_app.server.service import Service
from rag_app.server.threads import in_thread
from rag_app.server.uploads import Upload, file_id, owner_of

router = APIRouter(prefix="/page/collections/{collection}", tags=["page"])


@router.get("")
async def show_state(collection: str, key: Reader, service: Served) -> dict[str, Any]:
    """Tell what made a collection, its index, its rows, and what is not as configured."""
    async with service.admission.working():
        app = await service.app(collection, key)
        return await in_thread(lambda: _state(app, key))


def _state(app: RagApp, key: Key) -> dict[str, Any]:
    info = show_collection(app.config, app.config.vector_store.collection)
    documents = documents_of(app, key)
    try:
        index = show_index(app.config).to_dict()
    # Such a collection can be searched all the same; why it is none of ours says `mismatch`.
    except CollectionMismatchError:
        index = {}
    return {
        "name": info.name,
        "documents": len(documents),
        "nodes": sum(document.nodes for document in documents.values()),
        "size": sum(document.size for document in documents.values()),
        "made_by": info.made_by,
        "mismatch": info.mismatch,
        # The way on is a command for whoever runs the server.
        "remedy": info.remedy if key.may("admin") else "",
        "backend": index.get("backend", ""),
        "index": index.get("built", {}),
        "index_size": index.get("size"),
        "differs": index.get("differs", []),
    }


@router.get("/documents")
async def list_documents(
    collection: str,
    key: Reader,
    service: Served,
    q: str = "",
    type: str = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """List documents by path: those whose path or title has all words of `q`."""
    async with service.admission.working():
        app = await service.app(collection, key)
        documents = list((await in_thread(lambda: documents_of(app, key))).values())
    words = q.casefold().split()
    found = [
        each
        for each in documents
        if type in {"", each.type}
        and all(word in f"{each.path} {each.title}".casefold() for word in words)
    ]
    return {
        "documents": [_row(each) for each in found[offset : offset + limit]],
        "found": len(found),
        "all": len(documents),
        "types": sorted({each.type for each in documents}),
    }


@router.get("/documents/{document_id}/pages")
async def show_pages(
    collection: str, document_id: str, key: Reader, service: Served
) -> dict[str, Any]:
    """Tell the sizes of a PDF's pages in points, and whether it is still the file that was read."""
    document = await _find(collection, document_id, key, service)
    sizes = await service.pdf_pages.sizes(_file(document))
    is_same = _file(document).stat().st_size == document.size
    return {"pages": sizes, "changed": not is_same}


@router.get("/documents/{document_id}/pages/{number}", response_class=Response)
async def show_picture(
    collection: str, document_id: str, number: int, key: Reader, service: Served
) -> Response:
    """Return a page of a PDF, from 1, as a picture."""
    document = await _find(collection, document_id, key, service)
    if not 1 <= number <= len(await service.pdf_pages.sizes(_file(document))):
        raise RequestError(404, f"there is no page {number}", code="page_not_found")
    picture = await service.pdf_pages.picture(_file(document), number)
    headers = {"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
    return Response(picture, media_type="image/png", headers=headers)


@router.post("/documents/{document_id}/ingest")
async def ingest_again(
    collection: str, document_id: str, key: Writer, service: Served
) -> dict[str, Any]:
    """Begin to read a document's file again; ``/v1/vector_stores/…/events`` tells how far it is."""
    app = await service.app(collection, key)
    document = await _find(collection, document_id, key, service)
    file = SourceFile(document.path, document.folder)
    if not file.absolute.is_file():
        message = "the file that this was read from is not there any more"
        raise RequestError(409, message, code="file_gone")
    return as_json(service.ingests.begin(app, collection, Upload(file, owner_of(key))))


async def _find(collection: str, id_: str, key: Key, service: Service) -> StoredDocument:
    async with service.admission.working():
        app = await service.app(collection, key)
        of_it = filters_of(key, of_document(id_))
        found = await in_thread(lambda: list(app.store.documents(of_it).values()))
    if not found:
        raise RequestError(404, f"there is no document {id_!r}", code="document_not_found")
    return found[0]


def _file(document: StoredDocument) -> Path:
    if document.type != "pdf":
        message = f"{document.path} is no PDF: it has no pages to look at"
        raise RequestError(404, message, code="no_pages")
    return document.file


def _row(document: StoredDocument) -> dict[str, Any]:
    # Not the folder: where things lie on the server's machine is nobody else's business.
    return {
        "id": document.id,
        "file_id": file_id(document.id),
        "path": document.path,
        "title": document.title,
        "type": document.type,
        "size": document.size,
        "nodes": document.nodes,
    }
