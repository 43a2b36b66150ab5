"""Names and texts that are made to be more than text are text: in the page, and in the terminal."""

from collections.abc import Callable

from click.testing import Result
from playwright.sync_api import Page, expect

from rag_app.config.sections import Config
from tests.server.pages.conftest import HOSTILE_NAME, HOSTILE_TEXT, ScriptedLLM, ask

SHOWN_NAME = "<img src=x onerror=document.title='owned'>\\x1b[31m\\u202efdp.txt"


def nothing_ran(page: Page) -> None:
    assert "owned" not in page.title()
    made = "() => document.querySelectorAll('img:not([src^=assets]), script:not([src^=assets]), "
    made += "iframe, object, form[action]').length"
    assert page.evaluate(made) == 0


def test_answer_sources_and_document_are_text(page: Page, llm: ScriptedLLM) -> None:
    llm.answers["turbine"] = f"{HOSTILE_TEXT} [1]"
    ask(page, f"What of the turbine? {HOSTILE_TEXT}")
    turn = page.locator(".turn")
    expect(turn.locator(".question")).to_contain_text("<script>document.title='owned'</script>")
    expect(turn.locator(".answer")).to_contain_text("<script>document.title='owned'</script>")
    expect(turn.locator(".answer")).to_contain_text(r"\x1b[2J")
    expect(turn.locator(".answer")).to_contain_text(r"\u202e")
    page.locator(".sources details summary").click()
    source = page.locator(".source").filter(has_text="onerror").first
    expect(source).to_contain_text(SHOWN_NAME)
    source.click()
    panel = page.locator(".panel")
    expect(panel.locator(".text")).to_contain_text("<script>")
    page.get_by_role("tab", name="How it was split").click()
    expect(panel.locator(".split")).to_contain_text(r"\x1b[2J")
    expect(page.locator(".conversations")).to_contain_text("<script>")
    nothing_ran(page)


def test_list_of_documents_and_ratings_are_text(page: Page) -> None:
    ask(page, f"What of the turbine? {HOSTILE_TEXT}")
    page.get_by_role("button", name="Why this answer").click()
    expect(page.locator(".panel .ledger")).to_contain_text("onerror")
    page.get_by_role("button", name="This answer is right").click()
    expect(page.locator(".correction")).to_contain_text("kept")
    page.get_by_role("link", name="Documents").click()
    row = page.locator(".document-list li").filter(has_text="onerror")
    expect(row).to_contain_text(SHOWN_NAME)
    page.get_by_role("link", name="Measure").click()
    expect(page.locator(".said")).to_contain_text("<script>")
    nothing_ran(page)


def test_terminal_shows_the_same(config: Config, run: Callable[..., Result]) -> None:
    store = config.vector_store
    result = run("--set", f"vector_store.uri={store.uri}", "documents", "list")
    assert SHOWN_NAME in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert HOSTILE_NAME not in result.stdout
