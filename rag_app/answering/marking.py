"""Hold what a model says against its contexts as it says it: ``metadata["support"]``."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from rag_app.answering.abstaining import abstains
from rag_app.answering.support import SupportChecker, sentence_spans
from rag_app.schema import SentenceSupport, Source

Span = tuple[int, int]


class Marker:
    """Checks the sentences of one answer, each once, when it has ended.

    Parameters
    ----------
    metadata
        The response's; ``support`` becomes a list, in the answer's order.
    """

    def __init__(
        self,
        checker: SupportChecker,
        sources: Sequence[Source],
        question: str,
        metadata: dict[str, Any],
    ) -> None:
        self._checker = checker
        self._sources = sources
        self._question = question
        self._text = ""
        self._next = 0
        self._found: list[dict[str, Any]] = []
        metadata["support"] = self._found

    def add(self, text: str) -> bool:
        """Take a piece of the answer; tell whether a sentence may have ended."""
        self._text += text
        return any(not character.isalnum() and character != " " for character in text)

    def check(self, *, is_end: bool) -> None:
        """Check the sentences that have ended since the last time."""
        spans = sentence_spans(self._text)
        # A citation may still come behind the last one.
        for begin, end in spans if is_end else spans[:-1]:
            if begin >= self._next:
                self._next = end
                if not abstains(self._text[begin:end]):
                    found = self._checker.check_sentence(
                        self._text, (begin, end), self._sources, self._question
                    )
                    self._found.append(as_json(found))


def as_json(support: SentenceSupport) -> dict[str, Any]:
    """Return a sentence's support as a response's metadata have it: lists, as JSON would."""
    told = support.to_dict()
    return {**told, "citations": list(support.citations), "marks": list(support.marks)}


def marked(pieces: Generator[str, None, None], marker: Marker) -> Generator[str, None, None]:
    """Pass a stream on, and check each sentence when it has ended."""
    with closing(pieces):
        for piece in pieces:
            if marker.add(piece):
                marker.check(is_end=False)
            yield piece
    marker.check(is_end=True)


async def amarked(
    pieces: AsyncGenerator[str, None], marker: Marker, run: Callable[..., Awaitable[Any]]
) -> AsyncGenerator[str, None]:
    """Do as `marked`, in an event loop; the checks run in threads."""
    async with aclosing(pieces):
        async for piece in pieces:
            if marker.add(piece):
                await run(lambda: marker.check(is_end=False))
            yield piece
    await run(lambda: marker.check(is_end=True))


def without_unsupported(answer: str, support: Sequence[SentenceSupport]) -> str:
    """Return an answer without the sentences that are marked; empty if none is left."""
    kept, at = "", 0
    for each in support:
        if not each.is_supported:
            kept += answer[at : each.start]
            at = each.end
    return "\n".join(line.strip() for line in (kept + answer[at:]).splitlines() if line.strip())
