"""``/v1/chat/completions``: OpenAI's, streamed and not, with citations."""

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rag_app.server import conversation
from rag_app.server.access import Reader, Served, base_url
from rag_app.server.admission import Place
from rag_app.server.answers import Answer, RagOptions, ask
from rag_app.server.errors import as_request_error, body_of
from rag_app.server.events import event, respond
from rag_app.server.keys import Key
from rag_app.server.links import Links
from rag_app.server.sampling import Sampling
from rag_app.server.service import Service

router = APIRouter(tags=["chat"])


class StreamOptions(BaseModel):
    """What a stream has besides the answer."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Sampling):
    """OpenAI's request; fields that are not here are refused by their names."""

    model: str
    messages: list[conversation.Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: Literal[1] | None = None
    store: Literal[False] | None = None
    response_format: "TextFormat | None" = None
    user: str | None = None
    """Taken for an end user's name and not kept."""
    metadata: dict[str, str] | None = None
    """Taken and not kept."""
    rag: RagOptions = RagOptions()


class TextFormat(BaseModel):
    """The one format of an answer."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]


@router.post("/v1/chat/completions", response_model=None)
async def create(body: ChatRequest, request: Request, key: Reader, service: Served) -> Response:
    """Answer the last message from the documents of the collection that `model` names."""
    asked = conversation.read(body.messages, service.config.server.max_question)
    links = Links(base_url(request, service), body.model, key)
    completion = _Completion(body, links)
    return await respond(
        request,
        service,
        lambda place: _begin(body, asked, key, service, place),
        whole=completion.whole,
        events=completion.events if body.stream else None,
    )


async def _begin(
    body: ChatRequest, asked: conversation.Conversation, key: Key, service: Service, place: Place
) -> Answer:
    sampling = body.overrides()
    if body.max_completion_tokens is not None:
        # OpenAI's newer name; it wins where both are given.
        sampling["max_tokens"] = body.max_completion_tokens
    return await ask(service, body.model, key, asked, body.rag, sampling, place.deadline)


class _Completion:
    """The response to one request: whole, or as events."""

    def __init__(self, body: ChatRequest, links: Links) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._body = body
        self._links = links

    def whole(self, answer: Answer) -> dict[str, Any]:
        message = {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": answer.annotations(self._links),
        }
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": answer.finish_reason,
            "logprobs": None,
        }
        return {
            **self._head("chat.completion", [choice]),
            "usage": _usage(answer),
            **self._sources(answer),
        }

    async def events(self, answer: Answer) -> AsyncGenerator[str, None]:
        """Yield the events."""
        kind = "chat.completion.chunk"
        options = self._body.stream_options or StreamOptions()
        # OpenAI's chunks have the field in all of them once it is asked for, filled in the last.
        usage: dict[str, Any] = {"usage": None} if options.include_usage else {}
        try:
            first = _delta({"role": "assistant", "content": ""})
            yield event(self._head(kind, [first]) | usage)
            async for piece in answer.pieces:
                yield event(self._head(kind, [_delta({"content": piece})]) | usage)
        # The status 200 is sent: an error can only be an event now, and no [DONE] follows it.
        except Exception as error:
            yield event(body_of(as_request_error(error)))
            return
        # Only at the end: a citation's place counts in the whole text.
        annotations = answer.annotations(self._links)
        last = _delta({"annotations": annotations} if annotations else {})
        last["finish_reason"] = answer.finish_reason
        yield event(self._head(kind, [last]) | usage | self._sources(answer))
        if options.include_usage:
            yield event(self._head(kind, []) | {"usage": _usage(answer)})
        yield "data: [DONE]\n\n"

    def _head(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._body.model,
            "choices": choices,
        }

    def _sources(self, answer: Answer) -> dict[str, Any]:
        results = answer.search_results(self._links)
        return {
            "citations": [result["url"] for result in results],
            "search_results": results,
            "rag": answer.about(explain=self._body.rag.explain),
        }


def _delta(delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
