"""``/``: the page for people. Its files, in `rag_app.server.pages`, are served as they are."""

from importlib.resources import files
from mimetypes import guess_type
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from rag_app import __version__
from rag_app.server.access import Reader, Served
from rag_app.server.errors import RequestError

router = APIRouter(tags=["page"])

# Scripts and styles from this server alone, and no text that becomes markup (Trusted Types): even
# what got past the page's own care could not run. `blob:` is for pictures of a document's pages,
# which are fetched with the key.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; frame-src 'self'; font-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for again each time, and answered with 304 unless the package was upgraded.
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".woff2": "font/woff2"}
"""What a machine's own table of types may not know, or may have wrong."""


def _read_files() -> dict[str, bytes]:
    """Read every file of the page: nothing else can be asked for, whatever a path says."""
    found: dict[str, bytes] = {}
    folders = [("", files("rag_app.server").joinpath("pages"))]
    while folders:
        prefix, folder = folders.pop()
        for each in folder.iterdir():
            if each.is_dir():
                folders.append((f"{prefix}{each.name}/", each))
            else:
                found[prefix + each.name] = each.read_bytes()
    return found


_FILES = _read_files()


@router.get("/", response_class=Response, include_in_schema=False)
async def show_page() -> Response:
    """Return the page. It holds nothing of any collection, so that nobody needs a key for it."""
    return _response("index.html")


@router.get("/assets/{path:path}", response_class=Response, include_in_schema=False)
async def show_asset(path: str) -> Response:
    """Return a script, style, text or picture of the page."""
    if path not in _FILES:
        raise RequestError(404, "the page has no such file", code="not_found")
    return _response(path)


@router.get("/page/session")
async def show_session(key: Reader, service: Served) -> dict[str, Any]:
    """Say who asks and what it may: what the page shows depends on it."""
    config = service.config
    return {
        "name": key.name,
        "role": key.role,
        "has_keys": bool(key.digest),
        "has_llm": service.has_llm,
        "model": config.llm.model if service.has_llm else None,
        "collection": config.vector_store.collection,
        "max_question": config.server.max_question,
        "max_file_size": int(config.documents.max_file_size_mb * 1e6),
        "version": __version__,
    }


def _response(path: str) -> Response:
    suffix = path[path.rfind(".") :]
    kind = _TYPES.get(suffix) or guess_type(path)[0] or "application/octet-stream"
    return Response(_FILES[path], media_type=kind, headers=_HEADERS)
