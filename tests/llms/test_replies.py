"""Replies of another shape than an answer's, empty ones, and such with reasoning."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rag_app.config.sections import Config
from rag_app.errors import LLMError
from rag_app.llms import VllmServer, build_llm

from .conftest import section
from .servers import JSON, completion, model_server

Run = Callable[..., Result]
EVENTS = {"Content-Type": "text/event-stream"}
ways = pytest.mark.parametrize("way", ["complete", "stream", "async", "async stream"])


def event(**delta: Any) -> bytes:
    finish = delta.pop("finish_reason", None)
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


@contextmanager
def asking(whole: bytes, streamed: bytes) -> Iterator[Callable[[str], Any]]:
    """Yield what asks in some way, and is answered one way or the other."""
    kind = "complete"

    def reply(_: str) -> tuple[int, dict[str, str], bytes]:
        return (200, EVENTS, streamed) if "stream" in kind else (200, JSON, whole)

    with model_server(reply) as (url, _):
        llm = build_llm(section(backend="vllm-server", base_url=url))

        def ask(way: str) -> Any:
            nonlocal kind
            kind = way
            if way == "complete":
                return llm.complete("?")
            if way == "stream":
                return list(llm.stream_complete("?"))[-1]
            if way == "async":
                return asyncio.run(llm.acomplete("?"))

            async def last() -> Any:
                return [piece async for piece in await llm.astream_complete("?")][-1]

            return asyncio.run(last())

        yield ask
        llm.close()


NO_ANSWERS: dict[str, Any] = {
    "no choices": {"choices": []},
    "choices that are null": {"choices": None},
    "choices of text": {"choices": ["text"]},
    "no message": {"choices": [{"index": 0, "finish_reason": "stop"}]},
    "a number for a text": {
        "choices": [{"message": {"role": "assistant", "content": 5}, "delta": {"content": 5}}]
    },
    "a list": [1],
    "a number": 1,
    "null": None,
    "no object at all": "text",
}


@ways
@pytest.mark.parametrize("name", NO_ANSWERS)
def test_answers_of_another_shape(name: str, way: str) -> None:
    body = json.dumps(NO_ANSWERS[name])
    streamed = f"data: {body}\n\ndata: [DONE]\n\n".encode()
    said = r"no answer|broke off|failed"
    with asking(body.encode(), streamed) as ask, pytest.raises(LLMError, match=said):
        ask(way)


@ways
def test_answers_that_no_parser_takes(way: str) -> None:
    for body in (b"[" * 100_000, b"not json", b'{"choices": [{"message"'):
        with asking(body, b"data: " + body + b"\n\n") as ask, pytest.raises(LLMError):
            ask(way)


@ways
def test_an_error_in_place_of_an_answer(way: str) -> None:
    body = b'{"error": {"message": "out of memory", "code": 500}}'
    with asking(body, b"data: " + body + b"\n\n") as ask, pytest.raises(LLMError):
        ask(way)


@ways
def test_halves_of_characters_are_replaced(way: str) -> None:
    streamed = event(content="a\ud800b") + event(finish_reason="stop")
    with asking(completion("a\ud800b"), streamed) as ask:
        assert ask(way).text == "a\ufffdb"


def test_token_counts_that_are_none() -> None:
    body = json.loads(completion("fine"))
    body["usage"] = {"prompt_tokens": "many", "completion_tokens": None, "total_tokens": []}
    with asking(json.dumps(body).encode(), b"") as ask:
        answer = ask("complete")
        assert answer.text == "fine"
        assert answer.additional_kwargs == {"finish_reason": "stop"}


THOUGHTS = {"reasoning": "Let me think."}


@ways
def test_reasoning_is_told_from_the_answer(way: str) -> None:
    streamed = event() + event(reasoning="Let me ") + event(reasoning="think.")
    streamed += event(content="Yes.") + event(finish_reason="stop")
    with asking(completion("Yes.", **THOUGHTS), streamed) as ask:
        answer = ask(way)
        assert answer.text == "Yes."
        assert answer.additional_kwargs["finish_reason"] == "stop"
        if "stream" not in way:
            assert answer.additional_kwargs["reasoning"] == "Let me think."


def ask_command(
    run: Run, reply: bytes, *arguments: str, command: tuple[str, ...] = ("query", "What is HNSW?")
) -> Result:
    with model_server(lambda _: (200, JSON, reply)) as (url, _):
        return run(
            *command,
            *("--set", "llm.backend=vllm-server", "--set", f"llm.base_url={url}"),
            *("--set", "chunking.size=40", "--set", "chunking.overlap=0", *arguments),
        )


def cut(text: str | None, **message: Any) -> bytes:
    body = json.loads(completion(text, **message))
    body["choices"][0]["finish_reason"] = "length"
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (cut(None, **THOUGHTS), "all 3 tokens that it may for its reasoning"),
        (cut(None), "all 3 tokens that it may and wrote no text"),
        (cut(""), "all 3 tokens that it may and wrote no text"),
        (completion(" \n"), "answered nothing (finish_reason 'stop')"),
        (completion("", **THOUGHTS), "answered nothing after its reasoning"),
    ],
)
def test_no_answer_is_an_error(ingested: Config, run: Run, reply: bytes, said: str) -> None:
    result = ask_command(run, reply)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stdout == ""


def test_reasoning_is_shown_apart(ingested: Config, run: Run) -> None:
    reply = completion("A graph [1].", reasoning="First,\nthe graph.")
    result = ask_command(run, reply)
    assert result.exit_code == 0, result.stderr
    assert "graph." not in result.stdout.partition("Sources")[0].replace("A graph [1].", "")
    assert "no part of its answer:\n  First,\n  the graph.\n" in result.stderr
    found = json.loads(ask_command(run, reply, "--json").stdout)
    assert (found["answer"], found["reasoning"]) == ("A graph [1].", "First,\nthe graph.")


def test_an_empty_answer_in_a_batch(ingested: Config, run: Run, here: Path) -> None:
    (here / "questions.txt").write_text("What is HNSW?\n", encoding="utf-8")
    result = ask_command(run, cut(None), command=("batch", "questions.txt"))
    assert result.exit_code == 1
    assert "wrote no text" in json.loads(result.stdout)["error"]
    result = ask_command(run, completion("Yes.", **THOUGHTS), command=("batch", "questions.txt"))
    (found,) = map(json.loads, result.stdout.splitlines())
    assert (found["answer"], found["reasoning"]) == ("Yes.", "Let me think.")
    assert found["finish_reason"] == "stop"


def test_only_what_is_given_is_sent_beside_openais_own() -> None:
    with model_server(lambda _: "fine") as (url, _):
        llm = build_llm(section(backend="vllm-server", base_url=url))
        assert isinstance(llm, VllmServer)
        assert "extra_body" not in llm._get_model_kwargs()
        given = {"top_k": 3, "structured_outputs": {"choice": ["a"]}, "cache_salt": "x"}
        assert llm._get_model_kwargs(**given)["extra_body"] == given
        thinking = section(
            backend="vllm-server", base_url=url, chat_template_kwargs={"enable_thinking": True}
        )
        body = build_llm(thinking)._get_model_kwargs()["extra_body"]  # type: ignore[attr-defined]
        assert body == {"chat_template_kwargs": {"enable_thinking": True}}
