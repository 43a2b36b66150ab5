"""Ask: an answer that streams, its citations, and the documents beside it."""

from playwright.sync_api import Page, expect

from tests.server.conftest import Running, wait_for
from tests.server.pages.conftest import HNSW, ScriptedLLM, ask


def test_answer_with_its_citation_and_the_document_beside_it(page: Page) -> None:
    ask(page, HNSW)
    answer = page.locator(".answer")
    expect(answer).to_contain_text("HNSW builds a graph of vectors")
    citation = answer.locator("a.cite")
    citation.hover()
    card = page.get_by_role("tooltip")
    expect(card).to_be_visible()
    citation.click()
    expect(card).to_be_hidden()
    cited = page.locator(".panel .passage[aria-current]")
    expect(cited).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator(".panel")).to_be_hidden()
    expect(citation).to_be_focused()


def test_answer_streams_and_is_stopped(page: Page, llm: ScriptedLLM, server: Running) -> None:
    llm.answers["Is it slow?"] = "It is **slow** [1] … and never ends."
    page.get_by_role("textbox").fill("Is it slow?")
    page.keyboard.press("Enter")
    answer = page.locator(".answer")
    expect(answer).to_contain_text("It is slow")
    expect(answer.locator("strong")).to_have_text("slow")
    expect(answer.locator(".cite.pending")).to_have_text("1")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn")).to_have_attribute("data-state", "stopped")
    expect(page.locator(".turn")).to_contain_text("Stopped before its end.")
    wait_for(lambda: server.service.admission.in_flight == 0)


def test_follow_up_question_sends_what_was_said(page: Page, llm: ScriptedLLM) -> None:
    llm.answers["And its parameters?"] = "M and ef [1]."
    ask(page, HNSW)
    before = len(llm.prompts)
    ask(page, "And its parameters?")
    expect(page.locator(".turn")).to_have_count(2)
    assert any(HNSW in prompt for prompt in llm.prompts[before:])


def test_conversation_is_kept_in_the_browser(page: Page) -> None:
    ask(page, HNSW)
    ask(page, "And what else?")
    page.reload()
    expect(page.locator(".turn")).to_have_count(2)
    page.get_by_role("link", name="New conversation").click()
    expect(page.locator(".welcome")).to_be_visible()
    page.get_by_role("searchbox").fill("nowhere said")
    expect(page.locator(".conversations li")).to_have_text("None has these words")
    page.get_by_role("searchbox").fill("graph of")
    page.locator(".conversations a").click()
    expect(page.locator(".turn")).to_have_count(2)
