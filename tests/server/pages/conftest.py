"""One server, one browser and one collection for all tests of the page; a context each."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF
from llama_index.core.llms import CompletionResponse, CompletionResponseAsyncGen
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pydantic import Field, PrivateAttr

from rag_app import app as wiring
from rag_app.config.sections import Config
from rag_app.ingestion import run as ingestion
from rag_app.load import load_config
from tests.conftest import (
    CONSISTENCY_PAGE,
    HNSW_PAGE,
    RECIPES,
    FakeEmbedder,
    make_files,
    release_databases,
)
from tests.server.conftest import Running, serving
from tests.test_app import EchoLLM

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE_NAME = "<img src=x onerror=document.title='owned'>\x1b[31m\u202efdp.txt"
HOSTILE_TEXT = (
    "<script>document.title='owned'</script> <img src=x onerror=\"document.title='owned'\"> "
    "\x1b[2J\x1b]0;owned\x07 \u202egpj.exe [owned](javascript:document.title='owned') "
    "[x](data:text/html,<script>1</script>) turbine"
)
HNSW = "What does HNSW build?"


class ScriptedLLM(EchoLLM):
    """Answers what the script has for a question; "…" in an answer is where it waits to go on."""

    answers: dict[str, str] = Field(default_factory=dict)

    _go_on: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseAsyncGen:
        self._prompts.append(prompt)
        asked = [answer for question, answer in self.answers.items() if question in prompt]
        return self._pieces(asked[-1] if asked else "HNSW builds a graph of vectors [1].")

    async def _pieces(self, answer: str) -> CompletionResponseAsyncGen:
        so_far = ""
        for word in answer.split(" "):
            if word == "…":
                await asyncio.sleep(60)
            so_far += f"{word} "
            yield CompletionResponse(text=so_far, delta=f"{word} ")
            await asyncio.sleep(0)


@pytest.fixture(scope="package")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="package")
def llm(patch: pytest.MonkeyPatch) -> ScriptedLLM:
    """A model that says what a test wants."""
    scripted = ScriptedLLM()
    patch.setattr(wiring, "build_llm", lambda _section: scripted)
    return scripted


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[Config]:
    """The configuration of a collection of a few documents, embedded by the fake."""
    folder = tmp_path_factory.mktemp("page")
    docs = make_files(folder / "docs", documents())
    fake = FakeEmbedder(model_name="fake")
    for module in (ingestion, wiring):
        patch.setattr(module, "build_embedder", lambda _section: fake)
    config = load_config(overrides=_overrides(folder))
    ingestion.ingest(config, [docs])
    yield config
    release_databases(folder)


def documents() -> dict[str, str | bytes]:
    return {
        "index.md": HNSW_PAGE,
        "guide/consistency.html": CONSISTENCY_PAGE,
        "kitchen/bread.txt": RECIPES,
        "reactor.pdf": reactor(),
        HOSTILE_NAME: f"The turbine is hostile.\n\n{HOSTILE_TEXT}\n",
    }


def reactor() -> bytes:
    document = FPDF()
    document.set_font("helvetica")
    document.add_page()
    document.cell(text="When the valve opens: the safety valve opens at 155 bar.")
    return bytes(document.output())


def _overrides(folder: Path) -> dict[str, Any]:
    return {
        "vector_store.uri": str(folder / "milvus.db"),
        "server.uploads_folder": str(folder / "uploads"),
        "server.keys_file": str(folder / "keys.json"),
        "server.feedback_folder": str(folder / "feedback"),
        "server.reports_folder": str(folder / "reports"),
        "chunking.size": 40,
        "chunking.overlap": 0,
        "llm.backend": "vllm-server",
        # The fake's vectors tell nothing of whether a passage answers.
        "answer.min_confidence": 0.0,
    }


@pytest.fixture(scope="package")
def server(config: Config, llm: ScriptedLLM) -> Iterator[Running]:
    with serving(config) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if BROWSER is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, server: Running) -> Iterator[BrowserContext]:
    """What a visitor has of a browser: nothing kept from the one before."""
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """The page, as it is first seen. Nothing it does may be an error or a breach of its policy."""
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if _is_fault(m.text, m.type) else None)
    page.goto("/")
    yield page
    assert faults == []


def _is_fault(text: str, kind: str) -> bool:
    # A refused request is logged by the browser itself, and is what some tests are about.
    return kind == "error" and not text.startswith("Failed to load resource")


def ask(page: Page, question: str) -> None:
    """Ask, and wait until the answer has ended."""
    before = page.locator(".turn").count()
    page.get_by_role("textbox", name="Ask about the documents").fill(question)
    page.keyboard.press("Enter")
    turn = page.locator(".turn").nth(before)
    turn.wait_for()
    page.wait_for_function(
        "place => document.querySelectorAll('.turn')[place].dataset.state !== 'streaming'",
        arg=before,
    )
