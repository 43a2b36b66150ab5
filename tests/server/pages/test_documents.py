"""Documents: what is in a collection, how it was read and split, what is added and removed."""

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.server.conftest import Running
from tests.server.pages.conftest import HNSW, ScriptedLLM, ask


@pytest.fixture
def listed(page: Page) -> Page:
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".document-list li").first).to_be_visible()
    return page


def test_documents_are_listed_found_and_filtered(listed: Page) -> None:
    expect(listed.locator(".figures dd").first).to_have_text("5")
    listed.get_by_label("Search documents").fill("bread")
    expect(listed.locator(".document-list li")).to_have_count(1)
    listed.get_by_label("Search documents").fill("nothing is called so")
    expect(listed.locator(".rows")).to_contain_text("No document is like this.")
    listed.get_by_label("Search documents").fill("")
    listed.get_by_label("Type").select_option("html")
    expect(listed.locator(".document-list li")).to_have_count(1)
    listed.get_by_label("Search in their texts").check()
    listed.get_by_label("Search documents").fill("flour and yeast")
    listed.locator(".passage-list button").filter(has_text="bread.txt").click()
    expect(listed.locator(".panel .passage[aria-current]")).to_contain_text("Bread needs flour")


def test_collection_says_what_made_it(listed: Page) -> None:
    listed.get_by_text("As configured").click()
    expect(listed.locator(".state")).to_contain_text("passages of at most 40 tokens")
    expect(listed.locator(".state")).to_contain_text("Milvus Lite")


def test_document_is_shown_as_it_was_split(listed: Page) -> None:
    listed.get_by_role("button", name="Index types index.md").click()
    panel = listed.locator(".panel")
    expect(panel.get_by_role("heading", name="In-memory indexes")).to_be_visible()
    panel.get_by_role("tab", name="Text").press("ArrowRight")
    expect(panel.get_by_role("tab", name="How it was split")).to_be_focused()
    expect(panel.locator(".split li").nth(1)).to_contain_text("characters")


def test_page_of_a_pdf_is_a_picture(page: Page, llm: ScriptedLLM) -> None:
    llm.answers["When does the valve open?"] = "At 155 bar [1]."
    ask(page, "When does the valve open?")
    page.locator(".sources details summary").click()
    page.locator(".source").filter(has_text="reactor.pdf").first.click()
    pictures = page.locator(".panel .page img")
    expect(pictures.first).to_be_visible()
    sizes = pictures.first.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert sizes == [1132, 1600]
    box = page.locator(".panel .page .box").first.bounding_box()
    sheet = page.locator(".panel .page").first.bounding_box()
    assert box is not None
    assert sheet is not None
    # FPDF begins 10 mm below the top of 297.
    assert 0.03 < (box["y"] - sheet["y"]) / sheet["height"] < 0.05
    page.get_by_role("tab", name="Text").click()
    expect(page.locator(".panel .passage").first).to_contain_text("155 bar")


def test_upload_is_read_answered_from_and_removed(listed: Page) -> None:
    rows = listed.locator(".uploads li")
    files: list[FilePayload] = [
        {"name": "gate.txt", "mimeType": "text/plain", "buffer": b"The north gate is closed."},
        {"name": "broken.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 no more"},
    ]
    listed.locator("input[type=file]").set_input_files(files)
    expect(rows.filter(has_text="gate.txt")).to_contain_text("In the collection")
    expect(rows.filter(has_text="broken.pdf")).to_contain_text("truncated or damaged")
    row = listed.locator(".document-list li").filter(has_text="gate.txt")
    expect(row).to_be_visible()
    row.get_by_role("button", name="Read again").click()
    expect(row).to_contain_text("it is up to date")
    row.get_by_role("button", name="Remove").click()
    row_of = listed.locator(".document-list li").filter(has_text="from the collection?")
    row_of.get_by_role("button", name="Remove").click()
    expect(listed.locator(".document-list li").filter(has_text="gate.txt")).to_have_count(0)


def test_drop_adds_a_file(listed: Page) -> None:
    data = listed.evaluate_handle(
        """() => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array([0, 1, 2, 0])], "notes.bin")); return data; }"""
    )
    listed.dispatch_event("main", "drop", {"dataTransfer": data})
    row = listed.locator(".uploads li")
    expect(row).to_contain_text("no reader for .bin")


def test_why_shows_what_was_found_by_each_search(page: Page) -> None:
    ask(page, HNSW)
    page.get_by_role("button", name="Why this answer").click()
    ledger = page.locator(".panel .ledger")
    expect(ledger.get_by_role("columnheader", name="By words")).to_be_visible()
    first = ledger.locator("tbody tr").first
    expect(first).to_contain_text("index.md")
    expect(first).to_contain_text("kept")
    expect(first).to_contain_text("place 1")
    expect(page.locator(".panel .times")).to_contain_text("Finding passages")


def test_ratings_become_questions(page: Page, server: Running) -> None:
    ask(page, HNSW)
    page.get_by_role("button", name="This answer is right").click()
    expect(page.locator(".correction")).to_contain_text("kept as a question")
    ask(page, "What is the capital of France?")
    page.get_by_role("button", name="This answer is wrong").last.click()
    page.get_by_label("What would have been right?").fill("Paris")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".correction").last).to_contain_text("kept as a question")
    page.get_by_role("link", name="Measure").click()
    said = page.locator(".said li")
    expect(said).to_have_count(2)
    expect(said.first).to_contain_text("Right would be: Paris")
