"""``/v1/responses``: OpenAI's newer shape, with the search as an item and citations of files."""

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rag_app.server import conversation
from rag_app.server.access import Reader, Served
from rag_app.server.admission import Place
from rag_app.server.answers import Answer, RagOptions, ask
from rag_app.server.errors import RequestError, as_request_error, body_of
from rag_app.server.events import event, respond
from rag_app.server.keys import Key
from rag_app.server.sampling import Sampling
from rag_app.server.service import Service
from rag_app.server.uploads import file_id

router = APIRouter(tags=["chat"])

RESULTS = "file_search_call.results"


class InputMessage(conversation.Message):
    """An item of the input; what is no message is refused by its type."""

    type: Literal["message"] = "message"


class FileSearch(BaseModel):
    """The one tool: the search that is made in any case."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["file_search"]
    vector_store_ids: list[str] = []


class ResponseRequest(BaseModel):
    """OpenAI's request; fields that are not here are refused by their names."""

    model_config = ConfigDict(extra="forbid")

    model: str
    input: str | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    stream: bool = False
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    tools: list[FileSearch] = []
    tool_choice: Literal["auto"] = "auto"
    include: list[Literal["file_search_call.results"]] = []
    store: bool | None = None
    """Nothing is kept; a client that asks for it is told in `rag.notes`."""
    user: str | None = None
    metadata: dict[str, str] | None = None
    rag: RagOptions = RagOptions()

    def sampling(self) -> dict[str, Any]:
        """Return what is given, by the names of ``[llm]``."""
        return Sampling(
            temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_output_tokens
        ).overrides()


@router.post("/v1/responses", response_model=None)
async def create(body: ResponseRequest, request: Request, key: Reader, service: Served) -> Response:
    """Answer the input from the documents of the collection that `model` names."""
    for tool in body.tools:
        if tool.vector_store_ids not in ([], [body.model]):
            message = f"only the model's own vector store can be searched: {body.model!r}"
            raise RequestError(400, message, param="tools", code="unsupported_value")
    asked = _conversation(body, service)
    return await respond(
        request,
        service,
        lambda place: _begin(body, asked, key, service, place),
        whole=lambda answer: _Items(body, answer).response("completed"),
        events=(lambda answer: _Events(body, answer).all()) if body.stream else None,
    )


def _conversation(body: ResponseRequest, service: Service) -> conversation.Conversation:
    messages: list[conversation.Message] = []
    if body.instructions:
        messages.append(conversation.Message(role="system", content=body.instructions))
    if isinstance(body.input, str):
        messages.append(conversation.Message(role="user", content=body.input))
    else:
        messages += body.input
    return conversation.read(messages, service.config.server.max_question, param="input")


async def _begin(
    body: ResponseRequest,
    asked: conversation.Conversation,
    key: Key,
    service: Service,
    place: Place,
) -> Answer:
    answer = await ask(service, body.model, key, asked, body.rag, body.sampling(), place.deadline)
    if body.store:
        answer.notes.append("store: nothing is kept here; send the whole conversation each time")
    return answer


class _Items:
    """The parts of one response."""

    def __init__(self, body: ResponseRequest, answer: Answer) -> None:
        self._id, self._search_id, self._message_id = (
            f"{kind}_{secrets.token_hex(16)}" for kind in ("resp", "fs", "msg")
        )
        self._created = int(time.time())
        self._body = body
        self._answer = answer

    def response(self, status: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        answer, body = self._answer, self._body
        is_done = status == "completed"
        is_cut = is_done and answer.finish_reason == "length"
        used = answer.prompt_tokens + answer.completion_tokens
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": "incomplete" if is_cut else status,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": self.items() if is_done else [],
            "parallel_tool_calls": False,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": body.tool_choice,
            "tools": [tool.model_dump() for tool in body.tools],
            "top_p": body.top_p,
            "usage": {
                "input_tokens": answer.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": answer.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": used,
            }
            if is_done
            else None,
            "rag": answer.about(explain=body.rag.explain) if is_done else None,
        }

    def items(self) -> list[dict[str, Any]]:
        searched = [self.search("completed")] if self._answer.kind == "answer" else []
        return [*searched, self.message("completed")]

    def search(self, status: str) -> dict[str, Any]:
        results = None
        if RESULTS in self._body.include and status == "completed":
            results = [
                {
                    "file_id": file_id(source.document_id),
                    "filename": source.file_name or source.path,
                    "score": source.score,
                    "text": source.text,
                    "attributes": {"path": source.path, "title": source.title},
                }
                for source in self._answer.sources
            ]
        return {
            "type": "file_search_call",
            "id": self._search_id,
            "status": status,
            "queries": [self._answer.question],
            "results": results,
        }

    def message(self, status: str) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self._message_id,
            "status": status,
            "role": "assistant",
            "content": [self.text()] if status == "completed" else [],
        }

    def text(self) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": self._answer.text,
            "annotations": self.annotations(),
            "logprobs": [],
        }

    def annotations(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "file_citation",
                "index": start,
                "file_id": file_id(source.document_id),
                "filename": source.file_name or source.path,
            }
            for start, _, source in self._answer.cited()
        ]


class _Events(_Items):
    """The same as events, in OpenAI's order, numbered."""

    def __init__(self, body: ResponseRequest, answer: Answer) -> None:
        super().__init__(body, answer)
        self._number = -1

    def _event(self, name: str, **content: Any) -> str:
        self._number += 1
        kind = f"response.{name}" if name != "error" else name
        return event({"type": kind, "sequence_number": self._number, **content}, kind)

    async def all(self) -> AsyncGenerator[str, None]:
        yield self._event("created", response=self.response("in_progress"))
        yield self._event("in_progress", response=self.response("in_progress"))
        index = 0
        if self._answer.kind == "answer":
            place: dict[str, Any] = {"output_index": 0, "item_id": self._search_id}
            yield self._event("output_item.added", output_index=0, item=self.search("in_progress"))
            # All at once: the search is over when the stream begins, and
            # clients wait for each step.
            for step in ("in_progress", "searching", "completed"):
                yield self._event(f"file_search_call.{step}", **place)
            yield self._event("output_item.done", output_index=0, item=self.search("completed"))
            index = 1
        yield self._event("output_item.added", output_index=index, item=self.message("in_progress"))
        place = {"output_index": index, "item_id": self._message_id, "content_index": 0}
        nothing = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._event("content_part.added", **place, part=nothing)
        try:
            async for piece in self._answer.pieces:
                yield self._event("output_text.delta", **place, delta=piece, logprobs=[])
        except Exception as error:
            told: Any = body_of(as_request_error(error))["error"]
            why = {"code": told["code"] or "server_error", "message": told["message"]}
            yield self._event("failed", response=self.response("failed", why))
            return
        for number, annotation in enumerate(self.annotations()):
            yield self._event(
                "output_text.annotation.added",
                **place,
                annotation_index=number,
                annotation=annotation,
            )
        yield self._event("output_text.done", **place, text=self._answer.text, logprobs=[])
        yield self._event("content_part.done", **place, part=self.text())
        yield self._event("output_item.done", output_index=index, item=self.message("completed"))
        whole = self.response("completed")
        # "completed", or "incomplete" where the answer was cut: OpenAI's stream ends with either.
        yield self._event(whole["status"], response=whole)
