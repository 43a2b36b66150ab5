"""Pages as files: each URL has one in ``documents.web_folder``, asked for again if it changed."""

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit

from rag_app.config.sections import DocumentsSection
from rag_app.documents.file_types.limits import UnreadableFileError, too_large
from rag_app.documents.web.kept import INDEX, Page, pages_in
from rag_app.errors import InputError
from rag_app.install import pip_install
from rag_app.schema import SkippedFile

if TYPE_CHECKING:  # with httpx, which only those who read the web import
    from rag_app.documents.web.client import Answer, WebClient

_MAX_SITEMAPS = 100
_SUFFIXES = {
    **{"text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf"},
    **{
        "text/markdown": ".md",
        "text/plain": ".txt",
        "text/csv": ".csv",
        "application/json": ".json",
    },
    **{"application/xml": ".xml", "text/xml": ".xml", "application/zip": ".zip"},
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}
_MAX_NAME = 100


@dataclass
class Mirrored:
    """What became of URLs.

    Attributes
    ----------
    files
        Where the pages lie.
    unchanged
        How many of them their servers said to be as they were.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    unchanged: int = 0


def is_url(path: str | Path) -> bool:
    """Tell whether what was named is a page and no file."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def mirror(urls: Iterable[str], section: DocumentsSection, stop: Event | None = None) -> Mirrored:
    """Keep the pages at URLs, those that a sitemap or a list at one names included.

    Parameters
    ----------
    urls
        Of pages, of sitemaps (XML, also packed and of sitemaps), or of lists (text of URLs alone).
    section
        The configuration's ``[documents]``.
    stop
        When set, no further page is asked for.

    Raises
    ------
    InputError
        If the extra is not installed.
    """
    try:
        import protego  # noqa: F401
    except ImportError:
        raise InputError("reading the web needs more packages", pip_install("web")) from None
    from rag_app.documents.web.client import WebClient

    client = WebClient(section)
    try:
        return _Mirror(client, section).fetch(urls, stop or Event())
    finally:
        client.close()
        pages_in.cache_clear()


class _Mirror:
    """Fetches, and keeps the index."""

    def __init__(self, client: "WebClient", section: DocumentsSection) -> None:
        self._client = client
        self._section = section
        self._folder = Path(section.web_folder).absolute()
        self._pages = dict(pages_in(self._folder))
        self._paths = {page.url: path for path, page in self._pages.items()}
        self._found = Mirrored()
        self._sitemaps = 0

    def fetch(self, urls: Iterable[str], stop: Event) -> Mirrored:
        """Fetch what the user named, and what that names."""
        waiting = [urldefrag(url)[0] for url in urls]
        seen = set(waiting)
        # The list grows while it is gone through.
        for number, url in enumerate(waiting, start=1):
            if stop.is_set():
                break
            if number > self._section.web_max_pages:
                reason = f"more than documents.web_max_pages = {self._section.web_max_pages} pages"
                self._found.skipped.append(SkippedFile(url, reason, str(self._folder)))
                break
            try:
                for further in self._fetch(url):
                    if further not in seen:
                        seen.add(further)
                        waiting.append(further)
            except UnreadableFileError as error:
                self._found.skipped.append(SkippedFile(url, str(error), str(self._folder)))
            if number % 20 == 0:
                self._write_index()
        self._write_index()
        return self._found

    def _fetch(self, url: str) -> list[str]:
        """Fetch a page and keep it, or return what a sitemap or list names."""
        path = self._paths.get(url)
        kept = self._pages[path] if path and (self._folder / path).is_file() else None
        headers = {}
        if kept and kept.etag:
            headers["If-None-Match"] = kept.etag
        if kept and kept.last_modified:
            headers["If-Modified-Since"] = kept.last_modified
        answer = self._client.get(url, headers)
        if answer.status == 304 and path:
            self._found.files.append(self._folder / path)
            self._found.unchanged += 1
            return []
        if answer.status != 200:
            raise UnreadableFileError(f"its server answers with status {answer.status}")
        data = self._unpacked(answer)
        if (named := _named_in(answer, data)) is not None:
            self._sitemaps += 1
            if self._sitemaps > _MAX_SITEMAPS:
                raise UnreadableFileError(f"more than {_MAX_SITEMAPS} sitemaps")
            return named
        self._keep(url, answer, data)
        return []

    def _unpacked(self, answer: "Answer") -> bytes:
        """Return the content; a packed sitemap is unpacked."""
        if not (answer.content.startswith(b"\x1f\x8b") and ".xml" in urlsplit(answer.url).path):
            return answer.content
        most = round(self._section.max_file_size_mb * 1e6)
        try:
            data = zlib.decompressobj(wbits=31).decompress(answer.content, most + 1)
        except (zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableFileError(f"truncated or damaged: {error}") from None
        if reason := too_large(len(data), most):
            raise UnreadableFileError(reason)
        return data

    def _keep(self, url: str, answer: "Answer", data: bytes) -> None:
        path = self._paths.get(url) or _path_for(url, answer)
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # Written aside: an ingest that runs meanwhile reads the old one or the new one.
        aside = file.with_name(f".{file.name}.new")
        aside.write_bytes(data)
        aside.replace(file)
        headers = answer.headers
        self._pages[path] = Page(
            url, headers.get("etag", "")[:1000], headers.get("last-modified", "")[:100]
        )
        self._paths[url] = path
        self._found.files.append(file)

    def _write_index(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{INDEX}.{os.getpid()}"
        kept = {path: asdict(page) for path, page in self._pages.items()}
        aside.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        aside.replace(self._folder / INDEX)


def _path_for(url: str, answer: "Answer") -> str:
    """Return a page's path below the folder: its host, a name that tells it, a suffix."""
    parts = urlsplit(url)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    own = Path(parts.path).suffix.lower()
    suffix = _SUFFIXES.get(kind) or (own if re.fullmatch(r"\.\w{1,8}", own) else ".html")
    told = f"{parts.path}?{parts.query}" if parts.query else parts.path
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", told.removesuffix(own)).strip("._")[:_MAX_NAME]
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    host = re.sub(r"[^A-Za-z0-9.-]+", "_", parts.netloc).strip(".") or "host"
    return f"{host}/{name or 'index'}-{digest}{suffix}"


def _named_in(answer: "Answer", data: bytes) -> list[str] | None:
    """Return the URLs that a sitemap or a list names; None of anything else."""
    head = data[:2000].lower()
    if b"<urlset" in head or b"<sitemapindex" in head:
        return list(_of_host(answer.url, _locations(data)))
    if answer.headers.get("content-type", "").startswith("text/plain"):
        lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
        urls = [line for line in lines if line]
        if urls and all(is_url(line) and " " not in line for line in urls):
            return [urldefrag(url)[0] for url in urls]
    return None


def _locations(data: bytes) -> list[str]:
    from lxml import etree  # 0.02 s

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableFileError(f"truncated or damaged: no sitemap: {error.msg}") from None
    return [(each.text or "").strip() for each in root.iter("{*}loc")]


def _of_host(sitemap: str, urls: Iterable[str]) -> Iterator[str]:
    """Yield the URLs of a sitemap's own host: it may speak for no other (sitemaps.org)."""
    host = urlsplit(sitemap).hostname
    for url in urls:
        whole = urldefrag(urljoin(sitemap, url))[0]
        if is_url(whole) and urlsplit(whole).hostname == host:
            yield whole
