"""Where a question's time goes: milliseconds by stage."""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

STAGES = ("embed", "search", "rerank", "pack", "first_token", "all_tokens", "total")
"""``first_token`` and ``all_tokens`` count from the moment that the LLM is asked, ``total`` from
the question."""


class Stopwatch:
    """Adds up milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done inside towards a stage."""
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def add(self, name: str, seconds: float) -> None:
        """Count some seconds towards a stage."""
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * seconds


class StageSpans(BaseSpanHandler[SimpleSpan]):
    """Adds up the seconds that embedding a question and reranking take inside a retriever.

    LlamaIndex traces both as spans, whichever embedder, retriever and reranker it is.
    """

    _began: dict[str, float] = PrivateAttr(default_factory=dict)
    _seconds: dict[str, float] = PrivateAttr(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "StageSpans"

    def take(self) -> dict[str, float]:
        """Return the seconds by stage since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> SimpleSpan | None:
        """Note when a stage begins."""
        if _stage(id_):
            self._began[id_] = time.perf_counter()
        return None  # no span is kept: the seconds are all that is wanted

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **_: Any,
    ) -> SimpleSpan | None:
        """Note how long it took."""
        if id_ in self._began and (stage := _stage(id_)):
            seconds = time.perf_counter() - self._began.pop(id_)
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        return None

    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **_: Any,
    ) -> SimpleSpan | None:
        """Forget one that failed."""
        self._began.pop(id_, None)
        return None


def _stage(span: str) -> str | None:
    """Tell the stage of a span, whose id is like "Class.method-uuid"."""
    method = span.split("-")[0]
    if method.endswith(".get_query_embedding"):
        return "embed"
    if "rerank" in method.lower() and method.endswith("._postprocess_nodes"):
        return "rerank"
    return None


@contextmanager
def stages_traced() -> Iterator[StageSpans]:
    """Listen to LlamaIndex's spans."""
    spans = StageSpans()
    # The root, which spans of all modules come up to.
    dispatcher = get_dispatcher()
    dispatcher.add_span_handler(spans)
    try:
        yield spans
    finally:
        dispatcher.span_handlers.remove(spans)
