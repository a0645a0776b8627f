"""OpenTelemetry: a span for each request, and under it prompt, engine and answer.

Spans hold names and numbers, never text: of an error only its type. Off by default; the SDK is
imported when it is on.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNTRACED = frozenset({"/health", "/ready", "/metrics"})  # asked for every few seconds
TIMEOUT_S = 5.0  # of one export, and of a stop whose collector does not answer
W3C = TraceContextTextMapPropagator()

_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Not OpenTelemetry's global provider: that can be set only once, and vLLM may set it."""
    global _tracer
    _tracer = tracer


@contextmanager
def span(name: str, **attributes: AttributeValue) -> Iterator[Span]:
    """A span under the current one; attributes get the prefix `frontpage.`."""
    if _tracer is None:
        yield INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name,
        record_exception=False,  # its message may quote a request
        set_status_on_exception=False,
    ) as current:
        note(current, **attributes)
        with marking_errors(current):
            yield current


def note(current: Span, **attributes: AttributeValue) -> None:
    current.set_attributes({f"frontpage.{name}": value for name, value in attributes.items()})


@contextmanager
def marking_errors(current: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        current.set_attribute("error.type", type(error).__qualname__)
        current.set_status(StatusCode.ERROR)
        raise


@contextmanager
def exporting(endpoint: str | None) -> Iterator[None]:
    """While it lasts, spans go to an OTLP collector in batches; the last ones at its end."""
    if endpoint is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "frontpage")
    resource = Resource.create({SERVICE_NAME: name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, timeout=TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider.get_tracer("frontpage"))
    try:
        yield
    finally:
        use(None)
        # Its own shutdown waits for half a minute if the collector does not answer.
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(TIMEOUT_S)
        if last.is_alive():
            exporter.shutdown()  # type: ignore[no-untyped-call]


class Tracing:
    """Pure ASGI middleware: the span of a request, under the client's if it sends a traceparent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _tracer is None or scope["type"] != "http" or scope["path"] in UNTRACED:
            return await self.app(scope, receive, send)
        headers, method = Headers(scope=scope), scope["method"]
        parent = W3C.extract({name: headers[name] for name in W3C.fields if name in headers})
        with _tracer.start_as_current_span(
            method,
            parent,
            SpanKind.SERVER,
            {"http.request.method": method, "frontpage.request_id": scope["state"]["request_id"]},
            record_exception=False,
            set_status_on_exception=False,
        ) as current:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    current.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        current.set_status(StatusCode.ERROR)
                await send(message)

            try:
                with marking_errors(current):
                    await self.app(scope, receive, send_and_note)
            finally:
                name_after_routing(current, scope)
        return None


def name_after_routing(current: Span, scope: Scope) -> None:
    """The route's template is known only when the router has run, the model later still."""
    if "route" in scope:
        route = getattr(scope["route"], "path", "")
        current.update_name(f"{scope['method']} {route}")
        current.set_attribute("http.route", route)
    if model := scope["state"].get("model"):
        current.set_attribute("frontpage.model", model)
