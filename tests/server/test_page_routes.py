"""What the page asks the server for, without a browser."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fpdf import FPDF

from rag_app.config.sections import Config
from rag_app.evaluation.questions import read_questions
from rag_app.server.errors import RequestError
from rag_app.server.feedback import FeedbackFile
from rag_app.server.keys import KeyFile
from rag_app.server.pdf_pages import PdfPages
from tests.server.conftest import Running, Serve

ANSWER = {"id": "0" * 16, "question": "What does HNSW build?", "answer": "A graph [1]."}
FEEDBACK = "/page/collections/rag_app/feedback"


def pdf(file: Path, pages: int = 2) -> Path:
    document = FPDF()
    document.set_font("helvetica")
    for number in range(pages):
        document.add_page()
        document.cell(text=f"Page {number + 1}")
    document.output(str(file))
    return file


def test_session_tells_who_asks(ingested: Config, serve: Serve) -> None:
    key = KeyFile(ingested.server.keys_file).add("alice", role="writer")
    with serve(ingested) as server, server.http() as client:
        assert client.get("/page/session").status_code == 401
        about = client.get("/page/session", headers={"Authorization": f"Bearer {key}"}).json()
        assert (about["name"], about["role"], about["has_keys"]) == ("alice", "writer", True)


def test_state_and_documents_are_those_that_a_key_may_see(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    key = keys.add("cook", collections=["rag_app"], filter='path contains "kitchen/"')
    other = keys.add("other", collections=["elsewhere"])
    base = "/page/collections/rag_app"
    with serve(ingested) as server, server.http(Authorization=f"Bearer {key}") as client:
        listed = client.get(f"{base}/documents").json()
        assert [each["path"] for each in listed["documents"]] == ["kitchen/bread.txt"]
        assert str(Path(ingested.server.keys_file).parent) not in json.dumps(listed)
        assert client.get(base).json()["documents"] == 1
        hits = client.post(f"{base}/scores", json={"question": "HNSW graph"}).json()
        assert {len(hits["dense"]), len(hits["text"])} <= {0, 1}
        (document,) = listed["documents"]
        again = client.post(f"{base}/documents/{document['id']}/ingest")
        assert again.status_code == 403
        for path in (base, f"{base}/documents", f"{base}/documents/{document['id']}/pages"):
            asked = client.get(path, headers={"Authorization": f"Bearer {other}"})
            assert asked.status_code == 404


def test_documents_come_in_parts(running: Running) -> None:
    with running.http() as client:
        base = "/page/collections/rag_app/documents"
        first = client.get(base, params={"limit": 2}).json()
        rest = client.get(base, params={"limit": 2, "offset": 2}).json()
        assert (first["found"], len(first["documents"]), len(rest["documents"])) == (3, 2, 1)
        assert first["types"] == ["html", "markdown", "text"]
        assert client.get(base, params={"q": "BREAD kitchen"}).json()["found"] == 1


async def test_pages_of_a_pdf_are_drawn_once(tmp_path: Path) -> None:
    pages, file = PdfPages(), pdf(tmp_path / "a.pdf")
    assert [round(height) for _, height in await pages.sizes(file)] == [842, 842]
    picture = await pages.picture(file, 2)
    assert picture.startswith(b"\x89PNG")
    assert await pages.picture(file, 2) is picture
    file.write_bytes(pdf(tmp_path / "b.pdf", 3).read_bytes())
    assert len(await pages.sizes(file)) == 3


async def test_what_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    pages = PdfPages()
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7 nothing else")
    with pytest.raises(RequestError, match="cannot be drawn") as refused:
        await pages.sizes(tmp_path / "bad.pdf")
    assert refused.value.status == 422
    with pytest.raises(RequestError, match="not there any more"):
        await pages.sizes(tmp_path / "gone.pdf")


async def test_drawing_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("rag_app.server.pdf_pages._WORKER", slow)
    monkeypatch.setattr("rag_app.server.pdf_pages.MOST_SECONDS", 0.2)
    with pytest.raises(RequestError, match="cannot be drawn"):
        await PdfPages().sizes(pdf(tmp_path / "a.pdf"))


def test_feedback_is_a_file_of_questions(running: Running) -> None:
    with running.http() as client:
        searched = client.post(
            "/v1/vector_stores/rag_app/search", json={"query": "HNSW graph"}
        ).json()
        best = searched["data"][0]["rag"]["node_id"]
        right = {**ANSWER, "rating": "right", "passages": [best, "no such node"]}
        assert client.post(FEEDBACK, json={**ANSWER, "rating": "wrong"}).status_code == 200
        assert client.post(FEEDBACK, json=right).json() == {"kept": True}
        unanswered = {**ANSWER, "id": "1" * 16, "rating": "wrong", "is_unanswerable": True}
        client.post(FEEDBACK, json=unanswered)
        corrected = {**ANSWER, "id": "2" * 16, "rating": "wrong", "correction": " A graph. "}
        client.post(FEEDBACK, json=corrected)
        told = client.get(FEEDBACK).json()
    questions, bad = read_questions(Path(told["file"]))
    assert bad == []
    assert [each.answers for each in questions] == [None, (), ("A graph.",)]
    assert questions[0].file == "index.md"
    assert "HNSW builds a graph" in questions[0].contexts[0]
    assert len(told["lines"]) == 3


def test_feedback_of_others_stays(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    alice, bob = keys.add("alice"), keys.add("bob", role="writer")
    with serve(ingested) as server, server.http(Authorization=f"Bearer {bob}") as client:
        as_alice = {"Authorization": f"Bearer {alice}"}
        client.post(FEEDBACK, json={**ANSWER, "rating": "right"}, headers=as_alice)
        client.post(FEEDBACK, json={**ANSWER, "rating": "wrong"})
        client.delete(f"{FEEDBACK}/{ANSWER['id']}")
        (line,) = client.get(FEEDBACK).json()["lines"]
        assert (line["said_by"], line["rating"]) == ("alice", "right")
        assert client.get(FEEDBACK, headers=as_alice).status_code == 403


def test_many_rate_at_once(tmp_path: Path) -> None:
    def put(number: int) -> None:
        line = {"id": f"{number:016x}", "question": "?", "said_by": "", "rating": "right"}
        FeedbackFile(str(tmp_path), "c").put(line)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(40)))
    assert len(FeedbackFile(str(tmp_path), "c").all()) == 40
    assert sorted(each.name for each in tmp_path.glob("c*")) == ["c.jsonl", "c.jsonl.lock"]


def test_reports_are_shown_to_who_has_a_link(ingested: Config, serve: Serve) -> None:
    folder = Path(ingested.server.reports_folder)
    folder.mkdir(parents=True)
    (folder / "eval.html").write_text("<p>0.9</p>")
    (folder / "notes.txt").write_text("not a report")
    keys = KeyFile(ingested.server.keys_file)
    admin, reader = keys.add("root", role="admin"), keys.add("alice")
    with serve(ingested) as server, server.http(Authorization=f"Bearer {admin}") as client:
        (report,) = client.get("/page/reports").json()["reports"]
        shown = client.get(f"/{report['url']}", headers={"Authorization": ""})
        assert shown.text == "<p>0.9</p>"
        assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        other = report["url"].replace("eval.html", "keys.json")
        assert client.get(f"/{other}").status_code == 403
        assert client.get("/page/reports/eval.html").status_code == 403
        as_reader = {"Authorization": f"Bearer {reader}"}
        assert client.get("/page/reports", headers=as_reader).status_code == 403
        keys.revoke("root")
        assert client.get(f"/{report['url']}").status_code == 403
