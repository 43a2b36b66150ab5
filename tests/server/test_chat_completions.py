"""``/v1/chat/completions`` with the real openai client, and what it refuses."""

from typing import Any

import openai
import pytest

from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.config.sections import Config
from tests.server.conftest import Running, Serve
from tests.test_app import EchoLLM

HNSW = "What do the parameters M and efConstruction of HNSW mean?"
ASKED: Any = [{"role": "user", "content": HNSW}]


def test_answer_is_quoted_with_its_sources(running: Running) -> None:
    answer = running.openai().chat.completions.create(model="rag_app", messages=ASKED)
    (choice,) = answer.choices
    assert "maximum degree" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    (first, *_) = choice.message.annotations or []
    text = choice.message.content or ""
    place = first.url_citation
    assert text[place.start_index : place.end_index].startswith("[")
    extra: dict[str, Any] = answer.model_extra or {}
    assert place.url in extra["citations"]
    assert place.title == "Index types"
    assert extra["rag"]["retrieved"] is True
    assert {"retrieve", "first_token", "total"} <= set(extra["rag"]["timings_ms"])
    assert extra["rag"]["ledger"][0]["fate"] == "kept"


def test_citation_leads_to_its_passage(running: Running) -> None:
    answer = running.openai().chat.completions.create(model="rag_app", messages=ASKED)
    url = (answer.choices[0].message.annotations or [])[0].url_citation.url
    address, _, anchor = url.partition("#")
    with running.http() as client:
        page = client.get(address)
        assert page.status_code == 200
        assert f'<section id="{anchor}">' in page.text
        assert "script-src" not in page.headers["content-security-policy"]
        told = client.get(address, headers={"Accept": "application/json"}).json()
    assert told["path"] == "index.md"
    assert any("maximum degree" in passage["text"] for passage in told["passages"])


def test_stream_says_the_same(running: Running) -> None:
    client = running.openai()
    whole = client.chat.completions.create(model="rag_app", messages=ASKED)
    chunks = list(
        client.chat.completions.create(
            model="rag_app",
            messages=ASKED,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    last, usage = chunks[-2], chunks[-1]
    assert last.choices[0].finish_reason == "stop"
    annotations = (last.choices[0].delta.model_extra or {})["annotations"]
    assert [each["url_citation"]["url"] for each in annotations] == [
        each.url_citation.url for each in whole.choices[0].message.annotations or []
    ]
    assert (last.model_extra or {})["citations"] == (whole.model_extra or {})["citations"]
    assert usage.choices == []
    assert usage.usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_model_sees_history_instructions_and_sampling(echoing: Running, llm: EchoLLM) -> None:
    llm.script.append("What does ef of HNSW mean?")
    answer = echoing.openai().chat.completions.create(
        model="rag_app",
        messages=[
            {"role": "system", "content": "Answer like a pirate."},
            {"role": "user", "content": HNSW},
            {"role": "assistant", "content": "The maximum degree [1]."},
            {"role": "user", "content": "And ef?"},
        ],
        temperature=0.5,
        max_tokens=20,
    )
    condensed, prompt = llm.prompts
    assert "And ef?" in condensed
    assert "The maximum degree" in condensed
    assert prompt.startswith("Answer like a pirate.\n\n")
    assert "Question: What does ef of HNSW mean?" in prompt
    assert (answer.model_extra or {})["rag"]["question"] == "What does ef of HNSW mean?"


def test_what_is_not_heeded_is_said(running: Running) -> None:
    answer = running.openai().chat.completions.create(
        model="rag_app",
        messages=[{"role": "system", "content": "Be brief."}, *ASKED],
        temperature=0.5,
    )
    (note,) = (answer.model_extra or {})["rag"]["notes"]
    assert "temperature" in note
    assert "the system message" in note


@pytest.mark.parametrize("said", ["Hi!", "thank you very much :)", "감사합니다", "Danke schön!"])
def test_small_talk_looks_nothing_up(running: Running, said: str) -> None:
    answer = running.openai().chat.completions.create(
        model="rag_app", messages=[{"role": "user", "content": said}]
    )
    extra: dict[str, Any] = answer.model_extra or {}
    assert extra["rag"]["kind"] == "small_talk"
    assert extra["citations"] == []
    assert answer.choices[0].message.content


def test_small_talk_can_be_switched_off(ingested: Config, serve: Serve) -> None:
    with serve(ingested, server__small_talk=False) as server:
        answer = server.openai().chat.completions.create(
            model="rag_app", messages=[{"role": "user", "content": "Hi!"}]
        )
    assert (answer.model_extra or {})["rag"]["kind"] == "answer"


def test_titles_and_tags_go_without_retrieval(echoing: Running, llm: EchoLLM) -> None:
    llm.script.append('{"title": "HNSW"}')
    task = "### Task:\nGenerate a title.\n<chat_history>\nUSER: HNSW?\n</chat_history>"
    answer = echoing.openai().chat.completions.create(
        model="rag_app", messages=[{"role": "user", "content": task}]
    )
    assert answer.choices[0].message.content == '{"title": "HNSW"}'
    (prompt,) = llm.prompts
    assert "Sources:" not in prompt
    assert (answer.model_extra or {})["citations"] == []


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported"),
        ({"n": 2}, "n", ""),
        ({"logprobs": True}, "logprobs", "unsupported"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", ""),
        ({"temperature": 3}, "temperature", ""),
        ({"extra_body": {"rag": {"similarity_topk": 3}}}, "rag.similarity_topk", "unsupported"),
        ({"extra_body": {"rag": {"mode": "nearest"}}}, None, ""),
        ({"extra_body": {"rag": {"filter": "type = "}}}, None, ""),
        ({"model": "other"}, "model", "model_not_found"),
        ({"model": "../etc"}, "model", "model_not_found"),
        ({"messages": []}, "messages", ""),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", ""),
        ({"messages": [{"role": "user", "content": " "}]}, None, ""),
        ({"messages": [{"role": "user", "content": "x" * 20_001}]}, "messages", ""),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}],
                    }
                ]
            },
            "messages",
            "unsupported_content",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    running: Running, fields: dict[str, Any], param: str | None, code: str
) -> None:
    asked: dict[str, Any] = {"model": "rag_app", "messages": ASKED, **fields}
    with pytest.raises(openai.APIStatusError) as raised:
        running.openai().chat.completions.create(**asked)
    assert raised.value.status_code in {400, 404}
    error: Any = raised.value.body
    assert error["param"] == param
    assert code in (error["code"] or "")
    assert error["type"] in {"invalid_request_error", "not_found_error"}
    assert str(running.service.config.vector_store.uri) not in error["message"]


def test_answer_says_how_sure_it_is_and_is_refused_below_a_least(
    running: Running,
) -> None:
    told = []
    for least in (0.0, 1.0):
        answer = running.openai().chat.completions.create(
            model="rag_app", messages=ASKED, extra_body={"rag": {"min_confidence": least}}
        )
        told.append((answer.choices[0].message.content, (answer.model_extra or {})["rag"]))
    (answered, sure), (refused, unsure) = told
    assert 0 < sure["confidence"] == unsure["confidence"] < 1
    assert (sure["answered"], unsure["answered"]) == (True, False)
    assert "maximum degree" in (answered or "")
    assert refused == NOTHING_RELEVANT
    with running.http() as client:
        body = {"model": "rag_app", "messages": ASKED, "rag": {"min_confidence": 1.5}}
        assert client.post("/v1/chat/completions", json=body).status_code == 400
