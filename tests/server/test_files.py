"""Uploads, and their way into a collection: with the real openai client."""

import io
import json
import stat
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from rag_app.config.sections import Config
from rag_app.server.keys import KeyFile
from rag_app.server.uploads import safe_name
from tests.conftest import FakeEmbedder, MakeConfig
from tests.server.conftest import Running, Serve

CHEESE = b"# Cheese\n\nCheese needs milk, rennet and patience. Gouda ripens for a year.\n"


def ended(client: openai.OpenAI, file_id: str) -> Any:
    until = time.monotonic() + 60
    while (file := client.vector_stores.files.retrieve(file_id, vector_store_id="rag_app")).status:
        if file.status != "in_progress":
            return file
        assert time.monotonic() < until
        time.sleep(0.05)
    raise AssertionError


def put(client: openai.OpenAI, name: str, content: bytes) -> Any:
    file = client.files.create(file=(name, io.BytesIO(content)), purpose="assistants")
    client.vector_stores.files.create("rag_app", file_id=file.id)
    return ended(client, file.id)


def found(client: openai.OpenAI, question: str) -> list[str]:
    page = client.vector_stores.search("rag_app", query=question, max_num_results=1)
    return [row.file_id for row in page.data]


def test_upload_becomes_a_document_and_goes_again(running: Running) -> None:
    client = running.openai()
    file = client.files.create(file=("cheese.md", io.BytesIO(CHEESE)), purpose="assistants")
    assert (file.filename, file.bytes, file.status) == ("cheese.md", len(CHEESE), "processed")
    assert [each.id for each in client.files.list()] == [file.id]
    assert client.files.content(file.id).read() == CHEESE
    client.vector_stores.files.create("rag_app", file_id=file.id)
    assert ended(client, file.id).status == "completed"
    assert found(client, "What does cheese need?") == [file.id], "one name for all of it"
    counts = client.vector_stores.retrieve("rag_app").file_counts
    assert (counts.completed, counts.in_progress, counts.total) == (4, 0, 4)
    client.vector_stores.files.delete(file.id, vector_store_id="rag_app")
    assert found(client, "What does cheese need?") != [file.id]
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.files.retrieve(file.id, vector_store_id="rag_app")
    client.files.delete(file.id)
    assert list(client.files.list()) == []


def test_what_cannot_be_read_has_failed_and_says_why(running: Running) -> None:
    client = running.openai()
    failed = put(client, "broken.pdf", b"%PDF-1.7 nothing")
    assert failed.status == "failed"
    assert failed.last_error is not None
    assert failed.last_error.code == "invalid_file"
    assert failed.last_error.message
    unknown = put(client, "program.exe", b"MZ\x00\x01\x02")
    assert unknown.status == "failed"
    listed = client.vector_stores.files.list("rag_app", filter="failed")
    assert {each.id for each in listed} == {failed.id, unknown.id}


def test_first_upload_makes_the_collection(
    make_config: MakeConfig, fake_embedder: FakeEmbedder, serve: Serve
) -> None:
    config = make_config(chunking__size=40, chunking__overlap=0)
    with serve(config) as server:
        client = server.openai()
        assert list(client.models.list()) == []
        assert put(client, "cheese.md", CHEESE).status == "completed"
        assert [model.id for model in client.models.list()] == ["rag_app"]
        answer = client.chat.completions.create(
            model="rag_app", messages=[{"role": "user", "content": "What does cheese need?"}]
        )
        assert "rennet" in (answer.choices[0].message.content or "")


def test_progress_is_told_as_events(running: Running) -> None:
    client = running.openai()
    file = client.files.create(file=("cheese.md", io.BytesIO(CHEESE)), purpose="assistants")
    client.vector_stores.files.create("rag_app", file_id=file.id)
    with running.http() as http:
        told = http.get(f"/v1/vector_stores/rag_app/files/{file.id}/events")
    events = [json.loads(line[6:]) for line in told.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["status"] == "completed"
    assert {each["file_id"] for each in events} == {file.id}


def test_files_are_listed_in_pages(running: Running) -> None:
    client = running.openai()
    first = client.vector_stores.files.list("rag_app", limit=2)
    assert first.has_more
    listed = list(client.vector_stores.files.list("rag_app", limit=2))  # page after page
    assert len({each.id for each in listed}) == 3
    backwards = list(client.vector_stores.files.list("rag_app", limit=1, order="asc"))
    assert [each.id for each in backwards] == [each.id for each in reversed(listed)]


def test_readers_may_not_write_and_writers_see_their_own(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    reader, alice, bob, admin = (
        keys.add(name, role)
        for name, role in (
            ("reader", "reader"),
            ("alice", "writer"),
            ("bob", "writer"),
            ("admin", "admin"),
        )
    )
    with serve(ingested) as server:
        with pytest.raises(openai.PermissionDeniedError):
            server.openai(reader).files.create(
                file=("a.md", io.BytesIO(CHEESE)), purpose="assistants"
            )
        file = server.openai(alice).files.create(
            file=("cheese.md", io.BytesIO(CHEESE)), purpose="assistants"
        )
        for stranger in (bob, reader):
            with pytest.raises(openai.APIStatusError):
                server.openai(stranger).files.content(file.id)
            with pytest.raises(openai.APIStatusError):
                server.openai(stranger).vector_stores.files.create("rag_app", file_id=file.id)
        assert list(server.openai(bob).files.list()) == []
        assert [each.id for each in server.openai(admin).files.list()] == [file.id]


def test_documents_outside_a_keys_filter_are_not_listed_nor_removed(
    ingested: Config, serve: Serve
) -> None:
    keys = KeyFile(ingested.server.keys_file)
    everyone = keys.add("everyone", "writer")
    cook = keys.add("cook", "writer", filter='path contains "kitchen/"')
    with serve(ingested) as server:
        all_files = list(server.openai(everyone).vector_stores.files.list("rag_app"))
        (own,) = server.openai(cook).vector_stores.files.list("rag_app")
        assert len(all_files) == 3
        for other in all_files:
            if other.id != own.id:
                with pytest.raises(openai.NotFoundError):
                    server.openai(cook).vector_stores.files.delete(
                        other.id, vector_store_id="rag_app"
                    )
        assert len(list(server.openai(everyone).vector_stores.files.list("rag_app"))) == 3


def test_too_large_uploads_leave_nothing_behind(ingested: Config, serve: Serve) -> None:
    with serve(ingested, documents__max_file_size_mb=0.01) as server:
        client = server.openai()
        for size in (20_000, 200_000):  # found out while it is kept, and before
            with pytest.raises(openai.APIStatusError) as raised:
                client.files.create(file=("a.md", io.BytesIO(b"x" * size)), purpose="assistants")
            assert raised.value.status_code == 413
        assert list(client.files.list()) == []
    assert list(Path(ingested.server.uploads_folder).glob("*")) == []


def test_uploads_end_at_their_quotas(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    alice, bob, carol = (keys.add(name, "writer") for name in ("alice", "bob", "carol"))
    quotas = {"max_key_files": 2, "max_key_mb": 0.001, "max_all_files": 3}
    with serve(ingested, **{f"server__{name}": most for name, most in quotas.items()}) as server:

        def upload(key: str, size: int = 10) -> Any:
            file = ("a.md", io.BytesIO(b"x" * size))
            return server.openai(key).files.create(file=file, purpose="assistants")

        def refused(key: str, size: int = 10) -> str:
            with pytest.raises(openai.PermissionDeniedError) as raised:
                upload(key, size)
            assert raised.value.code == "insufficient_quota"
            assert "DELETE /v1/files/" in raised.value.message
            return raised.value.message

        first = upload(alice, 900)
        assert "0.001 MB (server.max_key_mb), of which 100 bytes are left" in refused(alice, 101)
        upload(alice, 100)
        assert "the key 'alice' may keep 2 files (server.max_key_files)" in refused(alice)
        upload(bob)
        assert "the server may keep 3 files (server.max_all_files)" in refused(carol)
        server.openai(alice).files.delete(first.id)
        upload(carol)
    folders = Path(ingested.server.uploads_folder).iterdir()
    assert len(list(folders)) == 3, "what was refused leaves nothing behind"


def test_uploads_are_the_servers_own(running: Running) -> None:
    running.openai().files.create(file=("a.md", io.BytesIO(CHEESE)), purpose="assistants")
    (folder,) = Path(running.service.config.server.uploads_folder).iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.md", "a.md"),
        ("../../etc/passwd", "passwd"),
        ("C:\\docs\\a.md", "a.md"),
        ("..", "file"),
        ("", "file"),
        (".hidden.md", "hidden.md"),
        ("a\x00b\n.md", "a_b_.md"),
        ("\u202egpj.md", "_gpj.md"),
        ("a long name without any suffix", "a long name without any suffix"),
        ("ä" * 300 + ".pdf", "ä" * 98 + ".pdf"),
    ],
)
def test_names_of_uploads(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_ingest_does_not_stop_questions(running: Running) -> None:
    client = running.openai()
    many = b"".join(b"# Part %d\n\nSomething about topic %d.\n\n" % (n, n) for n in range(400))
    file = client.files.create(file=("many.md", io.BytesIO(many)), purpose="assistants")
    client.vector_stores.files.create("rag_app", file_id=file.id)
    asked = 0
    while (
        client.vector_stores.files.retrieve(file.id, vector_store_id="rag_app").status
        == "in_progress"
        or asked < 3
    ):
        assert len(found(client, "What does bread need?")) == 1
        asked += 1
    assert ended(client, file.id).status == "completed"
