"""Make the pictures of the page in docs/.pictures/: of the documents in docs/, in a real browser.

    python -m scripts.screenshots [--browser /usr/bin/chromium]

Needs the extras "offline", "server" and "dev", and a Chromium.
"""

import argparse
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from rag_app import ingest, load_config
from rag_app.config.sections import Config
from rag_app.server.application import make_application

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / ".pictures"
QUESTION = "What do the parameters for HNSW mean?"
WIDE: ViewportSize = {"width": 1280, "height": 760}
NARROW: ViewportSize = {"width": 390, "height": 760}
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def serving(config: Config) -> Iterator[str]:
    """Serve a configuration; yield where."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_application(config), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def ask(page: Page) -> None:
    """Ask the demo's question and wait for the answer."""
    page.locator("textarea").fill(QUESTION)
    page.keyboard.press("Enter")
    page.locator(".turn[data-state=done]").wait_for()


def show_document(page: Page) -> None:
    """Open the first source beside the answer."""
    ask(page)
    page.locator(".answer a.cite").first.click()
    page.locator(".panel .passage[aria-current]").wait_for()


def show_why(page: Page) -> None:
    """Open the reasons of an answer."""
    ask(page)
    page.locator(".text-button").click()
    page.locator(".ledger th", has_text="By words").wait_for()


def show_documents(page: Page) -> None:
    """Open the list of documents."""
    page.locator("nav a[href='#/documents']").click()
    page.locator(".document-list").wait_for()
    page.locator(".state summary").click()


def take(browser: Browser, url: str, folder: Path) -> None:
    """Take all pictures."""
    shots = [
        ("page", WIDE, "light", show_document),
        ("page-dark", WIDE, "dark", show_why),
        ("page-documents", WIDE, "light", show_documents),
        ("page-phone", NARROW, "light", ask),
    ]
    for name, size, scheme, act in shots:
        context = browser.new_context(
            viewport=size,
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-US",
            reduced_motion="reduce",
            device_scale_factor=1.5,
        )
        page = context.new_page()
        page.goto(url)
        page.locator(".facts", has_text="documents").wait_for()
        act(page)
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # the last colour of a button comes slowly
        picture = Image.open(BytesIO(page.screenshot()))
        # A page has few colours: a quarter of the bytes, and nobody sees it.
        picture.convert("RGB").quantize(200).save(folder / f"{name}.png", optimize=True)
        context.close()


def main() -> None:
    """Ingest docs/, serve them, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="of Chromium")
    browser = parser.parse_args().browser
    if browser is None:
        parser.error("there is no chromium here: name a browser with --browser")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        overrides = {
            "vector_store.uri": f"{folder}/milvus.db",
            "vector_store.collection": "handbook",
            "server.uploads_folder": f"{folder}/uploads",
            "server.keys_file": f"{folder}/keys.json",
            "server.feedback_folder": f"{folder}/feedback",
        }
        config = load_config(ROOT / "config.toml", profile="offline", overrides=overrides)
        ingest(config, [ROOT / "docs"])
        with serving(config) as url, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS)
            take(chromium, url, PICTURES)
            chromium.close()


if __name__ == "__main__":
    main()
