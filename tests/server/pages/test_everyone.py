"""Everyone can use it: by keyboard, on a phone, in four languages, with a screen reader."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.server.conftest import Running
from tests.server.pages.conftest import HNSW, ask


def faults(page: Page) -> list[str]:
    """Return what axe-core finds that is serious."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator(".facts")).to_contain_text("documents")
    assert faults(page) == []
    ask(page, HNSW)
    page.locator(".sources details summary").click()
    page.get_by_role("button", name="This answer is wrong").click()
    expect(page.get_by_label("What would have been right?")).to_be_visible()
    page.locator("a.cite").first.click()
    expect(page.locator(".panel .passage[aria-current]")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("tab", name="How it was split").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Why this answer").click()
    expect(page.get_by_role("columnheader", name="By words")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".document-list li").first).to_be_visible()
    assert faults(page) == []
    page.get_by_role("link", name="Measure").click()
    expect(page.locator("main.measure section")).to_have_count(2)
    expect(page.locator(".nothing")).to_be_visible()
    assert faults(page) == []


def test_all_of_it_by_keyboard(page: Page) -> None:
    expect(page.get_by_role("textbox", name="Ask about the documents")).to_be_focused()
    page.keyboard.type(HNSW)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Please.")
    page.keyboard.press("Enter")
    citation = page.locator("a.cite").first
    expect(citation).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if citation.evaluate("link => link === document.activeElement"):
            break
    expect(citation).to_be_focused()
    expect(page.get_by_role("tooltip")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator(".panel h2")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(citation).to_be_focused()


def test_phone(browser: Browser, server: Running) -> None:
    context = browser.new_context(
        base_url=server.url, viewport={"width": 390, "height": 844}, has_touch=True
    )
    page = context.new_page()
    page.goto("/")
    ask(page, HNSW)
    page.locator("a.cite").first.tap()
    card = page.get_by_role("tooltip")
    expect(card.locator("small")).not_to_be_empty()
    card.get_by_role("button", name="Open the document").tap()
    expect(page.locator(".panel .passage[aria-current]")).to_be_in_viewport()
    box = page.locator(".panel").bounding_box()
    assert box is not None
    assert round(box["width"]) == 390
    page.get_by_role("button", name="Close").tap()
    for view in ("Documents", "Measure", "Ask"):
        page.get_by_role("button", name="Menu").tap()
        page.get_by_role("navigation").get_by_role("link", name=view).tap()
        expect(page.get_by_role("navigation")).not_to_be_in_viewport()
        page.wait_for_load_state("networkidle")
        wide = "() => [document.documentElement, document.querySelector('main')]"
        wide += ".some((each) => each.scrollWidth > each.clientWidth)"
        assert not page.evaluate(wide), view
    context.close()


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("de-AT", "Was möchten Sie wissen?"),
        ("ko", "무엇이 궁금하세요?"),
        ("zh-CN", "您想了解什么\uff1f"),
        ("fr", "What would you like to know?"),
    ],
)
def test_language_is_the_browsers(
    browser: Browser, server: Running, locale: str, words: str
) -> None:
    context = browser.new_context(base_url=server.url, locale=locale)
    page = context.new_page()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text(words)
    context.close()
