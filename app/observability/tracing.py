"""OpenTelemetry: a span for each request, and under it prompt, engine and answer.

Spans hold names and numbers, never text: of an error only its type. Off by default; the SDK is
imported when it is on.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import INVALID_SPAN, Span, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

TIMEOUT_S = 5.0  # of one export, and of a stop whose collector does not answer

_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Not OpenTelemetry's global provider: that can be set only once, and vLLM may set it."""
    global _tracer
    _tracer = tracer


def tracer_in_use() -> Tracer | None:
    """None while tracing is off."""
    return _tracer


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
