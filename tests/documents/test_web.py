"""Pages of the web, from a real server on this machine: polite, within limits, cited by address."""

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rag_app.config.sections import DocumentsSection
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.web.client import WebClient, _is_public
from rag_app.documents.web.mirror import mirror
from rag_app.errors import InputError

from ..conftest import json_of

Run = Callable[..., Result]


class Site:
    """A server's pages, and what was asked of it."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, dict(self.headers)))
                status, headers, body = site.pages.get(self.path, (404, {}, b"not here"))
                if headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
                    status, body = 304, b""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def page(self, path: str, body: str | bytes, kind: str = "text/html", **headers: str) -> str:
        data = body.encode() if isinstance(body, str) else body
        self.pages[path] = (200, {"Content-Type": kind, **headers}, data)
        return self.url + path

    def sitemap(self, path: str, *urls: str, kind: str = "urlset") -> str:
        inside = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
        xml = f'<{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inside}</{kind}>'
        return self.page(path, xml, "application/xml")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def section(tmp_path: Path, **settings: Any) -> DocumentsSection:
    return DocumentsSection(
        **{
            "web_folder": str(tmp_path / "web"),
            "web_seconds_between": 0,
            "web_private": True,
            **settings,
        }
    )


def test_a_site_is_ingested_and_cited_by_its_addresses(
    run: Run, site: Site, tmp_path: Path, fake_embedder: object
) -> None:
    pump = site.page("/pumps?id=1", "<title>Pumps</title><p>Pumps are oiled weekly.", ETag='"1"')
    text = site.page("/valve.txt", "Valves are checked.", "text/plain; charset=utf-8")
    named = site.sitemap("/inner.xml.gz", text, "https://elsewhere.example/page")
    site.pages["/inner.xml.gz"] = (200, {}, gzip.compress(site.pages["/inner.xml.gz"][2]))
    whole = site.sitemap("/sitemap.xml", named, pump, f"{site.url}/gone", kind="sitemapindex")
    settings = [
        *("--set", f"documents.web_folder={tmp_path / 'web'}"),
        *("--set", "documents.web_private=true", "--set", "documents.web_seconds_between=0"),
    ]
    report = json_of(run("ingest", whole, "--json", *settings))
    assert len(report["new"]) == 2
    (skip,) = report["skipped"]
    assert (skip["path"], skip["reason"]) == (
        f"{site.url}/gone",
        "its server answers with status 404",
    )
    found = json_of(run("retrieve", "Pumps are oiled weekly", "--json", *settings))
    assert pump in {each["url"] for each in found}
    assert f"1. {site.url}/" in run("retrieve", "Pumps are oiled weekly", *settings).stdout
    answer = json_of(run("query", "When are pumps oiled?", "--json", *settings))
    assert {source["path"] for source in answer["sources"]} <= {pump, text}
    site.asked.clear()
    again = json_of(run("ingest", whole, "--json", *settings))
    assert (again["new"], again["changed"], len(again["unchanged"])) == ([], [], 2)
    asked = dict(site.asked)
    assert asked["/pumps?id=1"]["If-None-Match"] == '"1"'
    site.page("/pumps?id=1", "<title>Pumps</title><p>Pumps are oiled daily.", ETag='"2"')
    assert len(json_of(run("ingest", pump, "--json", *settings))["changed"]) == 1


def test_robots_are_asked_first(site: Site, tmp_path: Path) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /private*\n", "text/plain")
    site.page("/a", "<p>A.")
    urls = [f"{site.url}/a", f"{site.url}/private/b"]
    found = mirror(urls, section(tmp_path))
    assert len(found.files) == 1
    assert [skip.reason for skip in found.skipped] == ["its robots.txt asks not to read it"]
    assert [path for path, _ in site.asked] == ["/robots.txt", "/a"]
    site.pages["/robots.txt"] = (500, {}, b"")
    assert not mirror(urls, section(tmp_path)).files


def test_lists_name_pages_and_a_host_has_its_pause(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [site.page(f"/{n}", f"<p>{n}.") for n in range(3)]
    listed = site.page("/list", "\n".join(pages), "text/plain")
    slept: list[float] = []
    monkeypatch.setattr("rag_app.documents.web.client.time.sleep", slept.append)
    found = mirror([listed], section(tmp_path, web_seconds_between=7, web_max_pages=3))
    assert len(found.files) == 2
    assert "web_max_pages = 3" in found.skipped[-1].reason
    assert len(slept) == 3
    assert 6 < slept[0] <= 7


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (302, {"Location": "/x"}, b"", "redirects more than 5 times"),
        (302, {"Location": "file:///etc/passwd"}, b"", "no address of a page"),
        (200, {}, b"x" * 2_000_000, "larger than documents.max_file_size_mb = 1"),
        (503, {}, b"", "status 503"),
        (200, {"Content-Type": "application/xml"}, b"<urlset><loc>", "no sitemap"),
    ],
)
def test_what_cannot_be_kept_has_its_reason(
    status: int, headers: dict[str, str], body: bytes, reason: str, site: Site, tmp_path: Path
) -> None:
    site.pages["/x"] = (status, headers, body)
    found = mirror([f"{site.url}/x"], section(tmp_path, max_file_size_mb=1))
    assert not found.files
    assert reason in found.skipped[0].reason


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/"),
        *("http://10.0.0.1/", "http://0x7f000001/", "http://[::ffff:127.0.0.1]/", "http://0/"),
        *("http://user@example.org/", "ftp://example.org/", "http://x:99999/"),
    ],
)
def test_private_addresses_are_not_asked(url: str, tmp_path: Path) -> None:
    client = WebClient(section(tmp_path, web_private=False))
    with pytest.raises(UnreadableFileError, match=r"not public|no address|is not known"):
        client.get(url)
    client.close()


def test_a_redirect_to_a_private_address_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/x"] = (302, {"Location": "http://10.0.0.1/secret"}, b"")
    monkeypatch.setattr(
        "rag_app.documents.web.client._is_public", lambda address: address == "127.0.0.1"
    )
    found = mirror([f"{site.url}/x"], section(tmp_path, web_private=False))
    assert "10.0.0.1, which is not public" in found.skipped[0].reason


def test_addresses_that_stand_for_private_ones_are_private() -> None:
    assert _is_public("93.184.215.14")
    assert _is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    for address in ("64:ff9b::a00:1", "2002:a00:1::", "fe80::1", "224.0.0.1", "100.64.0.1"):
        assert not _is_public(address)


def test_a_folder_of_documents_cannot_claim_to_be_from_the_web(tmp_path: Path) -> None:
    from rag_app.documents.discover import SourceFile
    from rag_app.documents.read import read

    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "pages.json").write_text('{"a.md": {"url": "https://bank.example"}}')
    document = read(SourceFile("a.md", tmp_path), section(tmp_path))
    assert "url" not in document.metadata


def test_a_page_that_cannot_be_read_ends_the_run_with_its_reason(
    run: Run, site: Site, tmp_path: Path
) -> None:
    result = run("ingest", f"{site.url}/x")
    assert result.exit_code == 2
    assert "which is not public; documents.web_private = true" in result.stderr
    assert InputError.exit_code == 2


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "protego", None)
    with pytest.raises(InputError, match=r"pip install .*\[web\]"):
        mirror(["https://example.org"], section(tmp_path))
