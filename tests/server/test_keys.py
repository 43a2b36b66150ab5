"""Keys: made once, kept as hashes, and what each may do."""

import json
import stat
from pathlib import Path
from typing import Any

import openai
import pytest

from rag_app.config.sections import Config
from rag_app.errors import ConfigError, InputError
from rag_app.load import override
from rag_app.server.application import make_application
from rag_app.server.keys import Key, KeyFile, find_key, per_second
from tests.conftest import json_of
from tests.server.conftest import Serve

HNSW = "What do the parameters M and efConstruction of HNSW mean?"
BREAD = "What does bread need?"


def ask(client: openai.OpenAI, question: str = HNSW) -> Any:
    return client.chat.completions.create(
        model="rag_app", messages=[{"role": "user", "content": question}]
    )


def test_file_keeps_hashes_only_and_is_the_owners(tmp_path: Path) -> None:
    file = tmp_path / "deep/keys.json"
    key = KeyFile(file).add("alice", "writer", ["a"], 'type = "html"', "60/min")
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = find_key(KeyFile(file).all(), key)
    assert found is not None
    assert (found.name, found.role, found.collections) == ("alice", "writer", ("a",))
    assert find_key(KeyFile(file).all(), key[:-1]) is None
    assert find_key(KeyFile(file).all(), "\ud800") is None


def test_revoked_key_is_nobodys_and_is_remembered(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("alice")
    keys.revoke("alice")
    assert find_key(keys.all(), key) is None
    assert [each.is_revoked for each in keys.all()] == [True]
    assert keys.add("alice") != key, "the name is free again"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a b"}, "no name"),
        ({"name": ""}, "no name"),
        ({"role": "root"}, "no role 'root'"),
        ({"collections": ["a-b"]}, "'a-b' is no name of a collection"),
        ({"filter": "type ="}, "type ="),
        ({"filter": 'secret = "x"'}, "secret"),
        ({"rate": "60"}, "'60' is no rate"),
        ({"rate": "0/min"}, "'0/min' is no rate"),
        ({"name": "bob"}, "there is a key called 'bob'"),
    ],
)
def test_wrong_keys_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("bob")
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        keys.add(**{"name": "alice", **wrong})
    assert [key.name for key in keys.all()] == ["bob"]


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"name": "a"}]}', '{"keys": 1}'])
def test_damaged_file_lets_nobody_in(ingested: Config, serve: Serve, content: str) -> None:
    Path(ingested.server.keys_file).parent.mkdir(exist_ok=True)
    with serve(ingested) as server:
        Path(ingested.server.keys_file).write_text(content)
        with server.http() as client:
            refused = client.get("/v1/models")
            assert refused.status_code == 503
            assert "keys.json" not in refused.text
    with pytest.raises(ConfigError, match=r"keys\.json cannot be read"):
        make_application(ingested)


def test_rates() -> None:
    assert per_second("60/min") == 1.0
    assert per_second("2/s") == 2.0
    assert per_second("3600/h") == 1.0
    assert per_second("") is None


def test_other_machines_need_a_key(ingested: Config) -> None:
    config = override(ingested, {"server.host": "0.0.0.0"})
    with pytest.raises(ConfigError, match="there is no key"):
        make_application(config)
    KeyFile(config.server.keys_file).add("alice")
    make_application(config).state.service.close()


def test_server_asks_for_a_key_as_soon_as_there_is_one(ingested: Config, serve: Serve) -> None:
    file: Any = Path(ingested.server.keys_file)
    with serve(ingested) as server:
        assert ask(server.openai()).choices
        keys = KeyFile(ingested.server.keys_file)
        key = keys.add("alice")
        with pytest.raises(openai.AuthenticationError):
            ask(server.openai())
        assert ask(server.openai(key)).choices
        keys.revoke("alice")
        with pytest.raises(openai.AuthenticationError):
            ask(server.openai(key))
        with pytest.raises(openai.AuthenticationError):
            ask(server.openai()), "revoking the last one does not open the door"
        for remove in (lambda: file.write_text('{"keys": []}'), file.unlink):
            remove()
            with pytest.raises(openai.AuthenticationError):
                ask(server.openai())


def test_collections_of_others_are_not_there(ingested: Config, serve: Serve) -> None:
    key = KeyFile(ingested.server.keys_file).add("alice", collections=["other"])
    with serve(ingested) as server:
        client = server.openai(key)
        assert list(client.models.list()) == []
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("rag_app")
        with pytest.raises(openai.NotFoundError):
            ask(client)


def test_what_a_key_may_not_use_is_as_if_it_were_not_there(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    stranger, everyone = keys.add("stranger", collections=["other"]), keys.add("everyone")
    messages = [{"role": "user", "content": HNSW}]
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/chat/completions", {"model": "NAME", "messages": messages}),
        ("POST", "/v1/responses", {"model": "NAME", "input": HNSW}),
        ("POST", "/v1/embeddings", {"model": "NAME", "input": HNSW}),
        ("POST", "/v1/rerank", {"model": "NAME", "query": HNSW, "documents": ["x"]}),
        ("POST", "/v1/vector_stores/NAME/search", {"query": HNSW}),
        ("POST", "/retrieval", {"knowledge_id": "NAME", "query": HNSW}),
        ("GET", "/v1/vector_stores/NAME", None),
        ("GET", "/v1/vector_stores/NAME/files", None),
        ("GET", "/v1/models/NAME", None),
        ("GET", "/documents/0?model=NAME", None),
    ]
    with serve(ingested) as server, server.http() as client:
        for method, path, body in asked:
            answers = []
            for key, name in ((stranger, "rag_app"), (everyone, "other")):
                answer = client.request(
                    method,
                    path.replace("NAME", name),
                    json=json.loads(json.dumps(body).replace("NAME", name)),
                    headers={"Authorization": f"Bearer {key}"},
                )
                assert answer.status_code == 404, path
                answers.append(answer.text.replace(name, "NAME"))
            assert answers[0] == answers[1], path


def test_file_of_the_keys_is_looked_at_once_a_request(
    ingested: Config, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = KeyFile(ingested.server.keys_file).add("alice")
    looked: list[int] = []
    own = KeyFile.all

    def counted(self: KeyFile) -> tuple[Key, ...]:
        looked.append(1)
        return own(self)

    with serve(ingested) as server:
        monkeypatch.setattr(KeyFile, "all", counted)
        server.openai(key).models.list()
    assert len(looked) == 1


def test_filter_of_a_key_cannot_be_argued_away(ingested: Config, serve: Serve) -> None:
    keys = KeyFile(ingested.server.keys_file)
    cook = keys.add("cook", filter='path contains "kitchen/"')
    reader = keys.add("reader")
    with serve(ingested) as server:
        everything = ask(server.openai(reader), BREAD).model_extra["search_results"]
        assert {result["path"] for result in everything} > {"kitchen/bread.txt"}
        for asked in ("", 'path contains "index"', 'type = "html" or path contains "e"'):
            answer = server.openai(cook).chat.completions.create(
                model="rag_app",
                messages=[{"role": "user", "content": HNSW}],
                extra_body={"rag": {"filter": asked}},
            )
            found = (answer.model_extra or {})["search_results"]
            assert {result["path"] for result in found} <= {"kitchen/bread.txt"}, asked
        hidden = next(r["url"] for r in everything if r["path"] == "index.md")
        address = hidden.partition("?")[0]
        with server.http(Authorization=f"Bearer {cook}") as client:
            assert client.get(address).status_code == 404
        with server.http(Authorization=f"Bearer {reader}") as client:
            assert client.get(address).status_code == 200


def test_link_of_an_answer_opens_without_a_key_until_the_key_ends(
    ingested: Config, serve: Serve
) -> None:
    keys = KeyFile(ingested.server.keys_file)
    key = keys.add("alice")
    with serve(ingested) as server:
        (url, *_) = ask(server.openai(key)).model_extra["citations"]
        address = url.partition("#")[0]
        with server.http() as client:
            assert client.get(address).status_code == 200
            assert client.get(address.replace("signature=", "signature=0")).status_code == 403
            assert client.get(address.replace("until=", "until=9")).status_code == 403
            assert client.get(address.partition("?")[0]).status_code == 401
            keys.revoke("alice")
            assert client.get(address).status_code == 403


def test_key_that_comes_too_often_is_told_when_to_come_again(
    ingested: Config, serve: Serve
) -> None:
    key = KeyFile(ingested.server.keys_file).add("alice", rate="2/h")
    with serve(ingested) as server:
        client = server.openai(key)
        client.models.list()
        client.models.list()
        with pytest.raises(openai.RateLimitError) as raised:
            client.models.list()
    assert 1500 < int(raised.value.response.headers["retry-after"]) <= 1800


def test_at_a_shell(run: Any) -> None:
    made = json_of(run("keys", "add", "alice", "--collections", "a,b", "--rate", "5/s", "--json"))
    assert made["key"].startswith("rag-")
    listed = run("keys", "list")
    assert listed.stdout.startswith("alice  reader; a, b; 5/s; made ")
    assert "digest" not in json.dumps(json_of(run("keys", "list", "--json")))
    assert run("keys", "add", "alice").exit_code == 2
    assert run("keys", "revoke", "alice").stdout == "revoked alice\n"
    assert run("keys", "revoke", "alice").exit_code == 2
    assert run("keys", "list").stdout.rstrip().endswith("revoked")
