"""What a response carries besides its text: ``response.metadata``, which can be written as JSON.

And a reply's text, noting what the reply says of itself there.
"""

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.llms import (
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)

from rag_app.answering.packing import Packed
from rag_app.answering.prompts import number_sources
from rag_app.llms.replies import empty_answer
from rag_app.schema import LedgerEntry, SentenceSupport, Source


def describe(packed: Packed) -> dict[str, Any]:
    """Return the metadata of an answer from these contexts, before it is there."""
    return {
        "sources": [source.to_dict() for source in number_sources(packed.nodes)],
        "ledger": [entry.to_dict() for entry in packed.ledger],
        "prompt_tokens": packed.prompt_tokens,
        "budget": packed.budget,
        **judged(packed),
        # The keys are there from the start: a stream's values come later.
        "support": None,
        **_told(CompletionResponse(text="")),
    }


def judged(packed: Packed) -> dict[str, Any]:
    """Return what the metadata say of whether the contexts answer the question."""
    verdict = packed.verdict
    return {
        "confidence": None if verdict is None else verdict.confidence,
        "answered": not packed.is_refused,
        "certain": not packed.is_refused and (verdict is None or verdict.is_certain),
        "why": [reason.to_dict() for reason in verdict.reasons] if verdict else [],
    }


def sources_of(metadata: Mapping[str, Any] | None) -> list[Source]:
    """Return the sources in a response's metadata as records, in prompt order."""
    return [
        Source(
            **{
                **source,
                "copies": tuple(source["copies"]),
                "boxes": tuple(tuple(box) for box in source["boxes"]),
            }
        )
        for source in (metadata or {}).get("sources", ())
    ]


def support_of(metadata: Mapping[str, Any] | None) -> list[SentenceSupport] | None:
    """Return the support of each sentence in a response's metadata; None: nothing was checked."""
    found = (metadata or {}).get("support")
    if found is None:
        return None
    return [
        SentenceSupport(
            **{**each, "citations": tuple(each["citations"]), "marks": tuple(each["marks"])}
        )
        for each in found
    ]


def ledger_of(metadata: Mapping[str, Any] | None) -> list[LedgerEntry]:
    """Return the ledger in a response's metadata as records, best first."""
    return [LedgerEntry(**entry) for entry in (metadata or {}).get("ledger", ())]


def text_of(reply: CompletionResponse, metadata: dict[str, Any]) -> str:
    """Return a reply's text, and note what it tells of itself.

    Raises
    ------
    LLMError
        If there is no text, for which LlamaIndex would print "None".
    """
    if not reply.text.strip():
        raise empty_answer(reply)
    metadata.update(_told(reply))
    return reply.text


def texts_of(pieces: CompletionResponseGen, metadata: dict[str, Any]) -> Generator[str, None, None]:
    """Yield a stream's text and note what it tells as it comes; raise as `text_of` at its end.

    Closing the generator closes the stream.
    """
    whole = _Whole(metadata)
    with closing(pieces):
        for piece in pieces:
            yield whole.add(piece)
    whole.check()


async def atexts_of(
    pieces: CompletionResponseAsyncGen, metadata: dict[str, Any]
) -> AsyncGenerator[str, None]:
    """Do as `texts_of`, in an event loop."""
    whole = _Whole(metadata)
    async with aclosing(pieces):
        async for piece in pieces:
            yield whole.add(piece)
    whole.check()


def _told(reply: CompletionResponse) -> dict[str, Any]:
    about = reply.additional_kwargs
    return {
        **({"answered": False, "certain": False} if about.get("answered") is False else {}),
        "reasoning": about.get("reasoning", ""),
        "finish_reason": about.get("finish_reason") or "",
        "completion_tokens": about.get("completion_tokens"),
    }


class _Whole:
    """What a stream has been so far."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self._metadata = metadata
        self._reply = CompletionResponse(text="")

    def add(self, piece: CompletionResponse) -> str:
        delta = piece.delta or ""
        # Whether there is any text is all that is asked at the end.
        self._reply.text = self._reply.text or delta.strip()
        self._reply.additional_kwargs.update(piece.additional_kwargs)
        self._metadata.update(_told(self._reply))
        return delta

    def check(self) -> None:
        if not self._reply.text:
            raise empty_answer(self._reply)
