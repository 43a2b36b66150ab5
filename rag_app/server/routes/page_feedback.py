"""``/page/collections/…/feedback``: what people say becomes the questions to test with."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from rag_app.server.access import Reader, Served, Writer, filters_of
from rag_app.server.conversation import check_length
from rag_app.server.feedback import FeedbackFile, as_question
from rag_app.server.threads import in_thread

router = APIRouter(prefix="/page/collections/{collection}/feedback", tags=["page"])

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,64}$")]


class Feedback(BaseModel):
    """What somebody says of an answer; `id` is the answer's, of the client's own making."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    question: Text
    answer: str
    rating: Literal["right", "wrong"]
    correction: str = ""
    """What would have been right."""
    is_unanswerable: bool = False
    """That the documents do not answer it, and nothing else would have been right."""
    passages: list[str] = Field(default=[], max_length=100)
    """Node ids of the passages that the answer cites."""


@router.post("")
async def rate(collection: str, body: Feedback, key: Reader, service: Served) -> dict[str, Any]:
    """Keep it, in place of what was said of this answer before."""
    section = service.config.server
    for name in ("question", "answer", "correction"):
        check_length(getattr(body, name), section.max_question, name)
    app = await service.app(collection, key)
    # Looked up, with the key's filter: what a client calls a passage need not be one.
    asked = body.passages if body.rating == "right" else []
    filters = filters_of(key)
    passages = await in_thread(lambda: app.store.get_nodes(asked, filters)) if asked else []
    answers = [body.correction.strip()] if body.correction.strip() else None
    line = as_question(
        body.id,
        body.question,
        is_right=body.rating == "right",
        answers=[] if body.is_unanswerable else answers,
        passages=passages,
        said_by=key.name,
        answer=body.answer,
    )
    await in_thread(lambda: FeedbackFile(section.feedback_folder, collection).put(line))
    return {"kept": True}


@router.delete("/{id}")
async def forget(collection: str, id: Id, key: Reader, service: Served) -> dict[str, Any]:
    """Forget what was said of an answer."""
    await service.app(collection, key)
    file = FeedbackFile(service.config.server.feedback_folder, collection)
    await in_thread(lambda: file.remove(id, key.name))
    return {"kept": False}


@router.get("")
async def list_feedback(collection: str, key: Writer, service: Served) -> dict[str, Any]:
    """List what was said, the newest first, and where it is kept."""
    await service.app(collection, key)
    file = FeedbackFile(service.config.server.feedback_folder, collection)
    lines = await in_thread(file.all)
    return {"file": str(file.path) if key.may("admin") else file.path.name, "lines": lines[::-1]}
