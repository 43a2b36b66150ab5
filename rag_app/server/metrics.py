"""What is counted and measured, for Prometheus."""

import time
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_app.milvus.admin import CollectionInfo
from rag_app.server.admission import Admission

# Prometheus's own buckets end at 10 seconds; an answer has `server.deadline`, 300 by default.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


class Metrics:
    """The counters of one server; nothing of them is global."""

    def __init__(self, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "rag_app_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "rag_app_request_seconds",
            "From a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "rag_app_stage_seconds",
            "Of questions: condense and retrieve alone, first_token and total from the beginning.",
            ("stage",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter(
            "rag_app_tokens", "Tokens of the model.", ("kind",), registry=self._registry
        )
        for name, text, read in (
            ("in_flight", "Questions that are worked on.", lambda: admission.in_flight),
            ("waiting", "Questions that wait for that.", lambda: admission.waiting),
        ):
            Gauge(f"rag_app_{name}", text, registry=self._registry).set_function(read)
        self._cache = Gauge(
            "rag_app_prefix_cache_tokens",
            "Prompt tokens looked up in the model's prefix cache, and found.",
            ("result",),
            registry=self._registry,
        )
        self._rows = Gauge(
            "rag_app_rows", "Rows of a collection.", ("collection",), registry=self._registry
        )

    def add_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def add_answer(
        self, timings_ms: Mapping[str, float], prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Count an answer."""
        for stage, ms in timings_ms.items():
            self._stages.labels(stage).observe(ms / 1000)
        self._tokens.labels("prompt").inc(prompt_tokens)
        self._tokens.labels("completion").inc(completion_tokens)

    def render(self, collections: Sequence[CollectionInfo], prefix_cache: tuple[int, int]) -> bytes:
        """Return all in Prometheus's text format."""
        # A collection that was dropped would keep its last number for ever.
        self._rows.clear()
        for info in collections:
            self._rows.labels(info.name).set(info.rows)
        for result, tokens in zip(("looked_up", "hit"), prefix_cache, strict=True):
            self._cache.labels(result).set(tokens)
        return generate_latest(self._registry)


class RequestMetrics:
    """Measures every request of an application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # Of a request that ends before its response began.
        status = 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            # The route's pattern, never the path: a client could make any number of those.
            route = getattr(scope.get("route"), "path", "other")
            # Nor the method as it came: HTTP takes any word for one.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.add_request(method, route, status, time.perf_counter() - started)
