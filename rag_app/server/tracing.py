"""OpenTelemetry: a span for each request, the question's own below it, W3C context in and out.

LlamaIndex's spans come from OpenInference's instrumentation, those of calls to model servers (which
get the context passed on) from OpenTelemetry's of httpx. Names of attributes are OpenTelemetry's
semantic conventions for HTTP and GenAI; the latter are still in development, and are only here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_app import __version__
from rag_app.errors import ConfigError
from rag_app.install import pip_install

if TYPE_CHECKING:  # of the extra "otel"
    from opentelemetry.sdk.trace import TracerProvider

OPERATION = "gen_ai.operation.name"
MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
FINISH_REASONS = "gen_ai.response.finish_reasons"

_UNTRACED = ("/health", "/ready", "/metrics")


def make_provider() -> "TracerProvider":
    """Return a provider that exports as OpenTelemetry's environment variables say (OTLP).

    Raises
    ------
    ConfigError
        If the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    provider = TracerProvider(
        resource=Resource.create({"service.name": "rag_app", "service.version": __version__})
    )
    # In batches, by a thread: no request waits for the collector.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """The instrumentation of one server.

    Parameters
    ----------
    provider
        That spans are made with; closed with this.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        try:
            from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
            from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
        except ModuleNotFoundError as error:
            raise _not_installed(error) from None
        self.provider = provider
        self._instrumentors = (LlamaIndexInstrumentor(), HTTPXClientInstrumentor())
        for each in self._instrumentors:
            each.instrument(tracer_provider=provider)

    def close(self) -> None:
        """Send what is left, and stop."""
        for each in self._instrumentors:
            # Instrumentation is the process's: it would go on to trace whatever else runs in it.
            each.uninstrument()
        self.provider.shutdown()


class RequestSpans:
    """Makes a span of each request, below the one that the request names (``traceparent``)."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        self._app = app
        self._tracer = provider.get_tracer("rag_app.server", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer within the span, which ends with the answer."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        from opentelemetry.propagate import extract, inject
        from opentelemetry.trace import SpanKind, Status, StatusCode

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = int(message["status"])
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                carrier: dict[str, str] = {}
                # The caller learns which trace it was, also where it named none.
                inject(carrier)
                headers = [(name.encode(), value.encode()) for name, value in carrier.items()]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        with self._tracer.start_as_current_span(
            scope["method"], extract(Headers(scope=scope)), kind=SpanKind.SERVER
        ) as span:
            try:
                await self._app(scope, receive, sent)
            finally:
                # Known only once the application has matched it; the pattern,
                # as paths are without number.
                route = getattr(scope.get("route"), "path", "")
                span.update_name(f"{scope['method']} {route}".strip())
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)


def note(attributes: Mapping[str, Any]) -> None:
    """Note something on the span of the request, where there is one."""
    try:
        from opentelemetry.trace import get_current_span
    except ModuleNotFoundError:
        return
    get_current_span().set_attributes(dict(attributes))


def _not_installed(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f"server.tracing is on, and the package {error.name} is not installed",
        f"{pip_install('otel')}, or set server.tracing = false",
    )
