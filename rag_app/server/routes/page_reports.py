"""``/page/reports``: what was measured, as far as it was left in ``server.reports_folder``."""

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.responses import FileResponse

from rag_app.server.access import ANYONE, Admin, Served
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key
from rag_app.server.links import is_signed, sign
from rag_app.server.service import Service
from rag_app.server.threads import in_thread

router = APIRouter(prefix="/page/reports", tags=["page"])

_NAME = re.compile(r"[\w][\w .@-]{0,120}\.(html|png|json)\Z", re.ASCII)
_KINDS = {".html": "text/html", ".png": "image/png", ".json": "application/json"}
_LIFETIME = 3600
_MOST = 200
_REPORTS = "page reports"
"""What links are signed for, where others name a collection: none has a blank in its name."""

# A report is a page of its own: its styles stand in it, and nothing of it may run or load.
_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


@router.get("")
async def list_reports(key: Admin, service: Served) -> dict[str, Any]:
    """List the reports, the newest first, each with a link that a frame can follow."""
    folder = Path(service.config.server.reports_folder)
    found = await in_thread(lambda: _reports(folder))
    return {"folder": str(folder), "reports": [_row(each, key) for each in found[:_MOST]]}


@router.get("/{name}", response_class=FileResponse)
async def show_report(
    name: str, service: Served, key: str = "", until: int = 0, signature: str = ""
) -> FileResponse:
    """Return a report, to whoever has a link that `list_reports` made."""
    _check_link(service, name, (key, until, signature))
    file = Path(service.config.server.reports_folder) / name
    if not _NAME.match(name) or not file.is_file():
        raise RequestError(404, f"there is no report {name!r}", code="report_not_found")
    return FileResponse(file, media_type=_KINDS[file.suffix], headers=_HEADERS)


def _reports(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [each for each in folder.iterdir() if _NAME.match(each.name) and each.is_file()]
    return sorted(files, key=lambda file: -file.stat().st_mtime)


def _row(file: Path, key: Key) -> dict[str, Any]:
    status, until = file.stat(), int(time.time()) + _LIFETIME
    query = {"key": key.name, "until": until, "signature": sign(key, _REPORTS, file.name, until)}
    return {
        "name": file.name,
        "kind": file.suffix[1:],
        "size": status.st_size,
        "made": int(status.st_mtime * 1000),
        "url": f"page/reports/{quote(file.name)}?{urlencode(query)}",
    }


def _check_link(service: Service, name: str, link: tuple[str, int, str]) -> None:
    who, until, signature = link
    keys = service.keys.all()
    is_open = not keys and not service.keys.has_had_keys and service.config.server.is_loopback
    for each in [ANYONE] if is_open else keys:
        # The role may have changed since the link was made, and the key may have been revoked.
        if each.name == who and each.may("admin") and not each.is_revoked:
            if is_signed(each, _REPORTS, name, until, signature):
                return
            break
    raise RequestError(403, "this link has ended, or was never one", code="bad_link")
