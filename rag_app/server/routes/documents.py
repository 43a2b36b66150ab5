"""``/documents/{id}``: a document as it was read, passage by passage; citations lead here."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from llama_index.core.schema import BaseNode
from starlette.responses import HTMLResponse, JSONResponse, Response

from rag_app.server.access import Served, bearer, filters_of, of_document
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.links import is_signed
from rag_app.server.service import Service
from rag_app.server.threads import in_thread

router = APIRouter(tags=["documents"])

# Documents are anybody's: even markup that got past `escape` could run and load nothing. No
# referrer, as the address holds a signature that opens the page; nothing stored, as it ends.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}section{white-space:pre-wrap;overflow-wrap:anywhere;"
    "padding:.5rem 1rem;border-left:3px solid transparent}section:target{border-color:#d97706;"
    "background:color-mix(in srgb,#d97706 12%,transparent)}small{opacity:.7}"
)


@router.get("/documents/{document_id}")
async def show_document(
    document_id: str,
    request: Request,
    service: Served,
    model: str = "",
    key: str = "",
    until: int = 0,
    signature: str = "",
) -> Response:
    """Show a document's passages: a page for browsers, JSON for programs that ask for it.

    The caller has a key, or a link that was signed for one: what the key may not see is not there.
    """
    collection = model or service.config.vector_store.collection
    caller = _caller(request, service, collection, document_id, (key, until, signature))
    filters = filters_of(caller, of_document(document_id))
    async with service.admission.working():
        app = await service.app(collection, caller, missing=lambda _: _not_found(document_id))
        nodes = await in_thread(lambda: app.store.get_nodes(filters=filters))
    if not nodes:
        raise _not_found(document_id)
    nodes.sort(key=lambda node: (getattr(node, "start_char_idx", None) or 0, node.node_id))
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(_as_json(document_id, nodes), headers=_HEADERS)
    return HTMLResponse(_as_page(nodes), headers=_HEADERS)


def _caller(
    request: Request,
    service: Service,
    collection: str,
    document: str,
    link: tuple[str, int, str],
) -> Key:
    name, until, signature = link
    if signature:
        for each in service.keys.all():
            if each.name == name and not each.is_revoked:
                if is_signed(each, collection, document, until, signature):
                    service.allowances.take(each)
                    return each
                break
        raise RequestError(403, "this link has ended, or was never one", code="bad_link")
    return bearer(request, service)


def _not_found(document: str) -> RequestError:
    return RequestError(404, f"there is no document {document!r}", code="document_not_found")


def _as_json(document: str, nodes: list[BaseNode]) -> dict[str, Any]:
    about = nodes[0].metadata
    return {
        "id": document,
        "path": about.get("path", ""),
        "title": about.get("title", ""),
        "type": about.get("type", ""),
        "passages": [
            {
                "id": node.node_id,
                "page": node.metadata.get("page"),
                "text": _text(node),
                # Neighbours overlap: where each one begins and ends in the text that was read.
                "start": getattr(node, "start_char_idx", None),
                "end": getattr(node, "end_char_idx", None),
                "headings": node.metadata.get("headings", ""),
                "boxes": node.metadata.get("boxes", []),
            }
            for node in nodes
        ],
    }


def _as_page(nodes: list[BaseNode]) -> str:
    about = nodes[0].metadata
    title = escape(str(about.get("title") or about.get("path") or ""))
    path = escape(str(about.get("path", "")))
    passages = "\n".join(
        f'<section id="node-{escape(node.node_id)}">{_page(node)}{escape(_text(node))}</section>'
        for node in nodes
    )
    return (
        '<!doctype html><html><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1><small>{path}</small>\n{passages}\n</body></html>"
    )


def _page(node: BaseNode) -> str:
    page = node.metadata.get("page")
    return f"<small>page {int(page)}</small>\n" if page else ""


def _text(node: BaseNode) -> str:
    return str(getattr(node, "text", ""))
