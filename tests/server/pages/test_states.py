"""What the page says when something is wrong: the server, the model, the key, the answer."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from rag_app.config.sections import Config
from rag_app.load import override
from rag_app.server.keys import KeyFile
from tests.server.conftest import Running, serving
from tests.server.pages.conftest import HNSW, ScriptedLLM, ask

CHAT = "**/v1/chat/completions"


def refuse(status: int, code: str, message: str, **headers: str) -> "Refusal":
    body = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return Refusal(status, body, headers)


class Refusal:
    """Answers a request in place of the server."""

    def __init__(self, status: int, body: object, headers: dict[str, str]) -> None:
        self._answer = (status, body, headers)

    def __call__(self, route: Route) -> None:
        status, body, headers = self._answer
        route.fulfill(status=status, json=body, headers=headers)


def test_server_that_is_away_is_told_and_asked_again(page: Page) -> None:
    page.route(CHAT, lambda route: route.abort())
    ask(page, HNSW)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server does not answer")
    page.unroute(CHAT)
    alert.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer")).to_contain_text("a graph of vectors")
    expect(alert).to_have_count(0)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (refuse(429, "overloaded", "full", **{"Retry-After": "7"}), "again in 7 seconds"),
        (refuse(503, "service", "the language model failed"), "does not work right now"),
        (refuse(504, "deadline", "too long"), "longer than the server allows"),
        (refuse(400, "invalid_value", "<b>\x1b[31mno</b>"), r"<b>\x1b[31mno</b>"),
    ],
)
def test_what_the_server_refuses_is_said(page: Page, refusal: Refusal, words: str) -> None:
    page.route(CHAT, refusal)
    ask(page, HNSW)
    expect(page.get_by_role("alert")).to_contain_text(words)


def test_answer_that_breaks_off_keeps_what_came(page: Page) -> None:
    piece = '{"choices": [{"delta": {"content": "HNSW builds"}}]}'
    page.route(CHAT, lambda route: route.fulfill(body=f"data: {piece}\n\n"))
    ask(page, HNSW)
    expect(page.locator(".answer")).to_have_text("HNSW builds")
    expect(page.get_by_role("alert")).to_be_visible()


def test_page_without_its_server(context: BrowserContext) -> None:
    page = context.new_page()
    page.route("**/page/session", lambda route: route.abort())
    page.goto("/")
    expect(page.get_by_role("alert")).to_contain_text("Is it still running?")
    page.unroute("**/page/session")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()


def test_refusal_names_the_nearest_passages(page: Page) -> None:
    def refused(route: Route) -> None:
        told = route.fetch().text()
        for name, value in (("answered", "false"), ("certain", "false"), ("confidence", "0.07")):
            told, number = re.subn(rf'"{name}": [^,]+', f'"{name}": {value}', told)
            assert number == 1
        route.fulfill(body=told)

    page.route(CHAT, refused)
    ask(page, HNSW)
    expect(page.locator(".answer")).to_have_text("The documents do not answer this.")
    expect(page.locator(".turn-foot")).to_contain_text("nearest passages")
    expect(page.locator(".source").first).to_be_visible()
    page.get_by_role("button", name="Why this answer").click()
    expect(page.locator(".sure")).to_contain_text("7% is the probability")


def test_sentences_that_no_passage_bears_out_are_marked(page: Page, llm: ScriptedLLM) -> None:
    llm.answers["Is it old?"] = "HNSW builds a graph of vectors. It was 😀 *made* in 1743 [1]."
    ask(page, "Is it old?")
    doubts = page.locator(".doubts")
    doubts.locator("summary").click()
    expect(doubts.locator("li")).to_have_count(1)
    expect(doubts.locator("li")).to_contain_text("a number that stands in no passage")
    marked = "() => [...CSS.highlights.get('doubted')].map((range) => range.toString())"
    assert page.evaluate(marked) == ["It was 😀 made in 1743 1"]


def test_answer_with_table_code_and_list(page: Page, llm: ScriptedLLM) -> None:
    llm.answers["Show me all."] = (
        "## Kinds\n\n| type | recall |\n|---|--:|\n| HNSW | **.99** [1] |\n\n1. one\n2. two\n"
        "   - deeper\n\n```python\nprint('<b>')  # [1]\n```\n\nSee [docs](https://example.org) or"
        " [here](javascript:alert(1)) ![x](http://evil.example/x.png) and <i>this</i>."
    )
    ask(page, "Show me all.")
    answer = page.locator(".answer")
    expect(answer.get_by_role("table")).to_contain_text("HNSW")
    expect(answer.locator("td a.cite")).to_have_text("1")
    expect(answer.locator("pre")).to_contain_text("print('<b>')  # [1]")
    expect(answer.locator("ol > li")).to_have_count(2)
    expect(answer.locator("ol ul li")).to_have_text("deeper")
    links = answer.locator("p a").evaluate_all("links => links.map((link) => link.href)")
    assert links == ["https://example.org/"]
    expect(answer.locator("img")).to_have_count(0)
    expect(answer).to_contain_text("<i>this</i>")


@pytest.fixture
def locked(config: Config, tmp_path: Path, llm: ScriptedLLM) -> Iterator[tuple[Running, str]]:
    """A server with a reader's key."""
    file = str(tmp_path / "keys.json")
    key = KeyFile(file).add("alice")
    with serving(override(config, {"server.keys_file": file})) as server:
        yield server, key


def test_key_is_asked_for_and_kept_for_the_tab(
    browser: Browser, locked: tuple[Running, str]
) -> None:
    server, key = locked
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Key").fill("rag-wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    ask(page, HNSW)
    page.locator("a.cite").first.click()
    expect(page.locator(".panel .passage[aria-current]")).to_be_visible()
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".document-list li").first).to_be_visible()
    expect(page.get_by_role("button", name="Upload")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert context.new_page().goto("/")
    other = context.pages[-1]
    expect(other.get_by_label("Key")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()
    context.close()


def test_first_run_asks_for_documents(
    config: Config, browser: Browser, llm: ScriptedLLM, tmp_path: Path
) -> None:
    nothing = override(config, {"vector_store.uri": str(tmp_path / "empty.db")})
    with serving(nothing) as server:
        context = browser.new_context(base_url=server.url)
        page = context.new_page()
        page.goto("/")
        expect(page.get_by_text("There is nothing to ask about yet.")).to_be_visible()
        page.get_by_role("link", name="Add documents").click()
        expect(page.get_by_text("There is nothing here yet.")).to_be_visible()
        context.close()
