"""Spans: names, parents, attributes, no text; and that a collector gets them."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.engine.fake import FakeEngine
from app.main import create_app
from app.observability import tracing
from app.settings import Settings
from tests.support.models import ROOT, SMOLLM2
from tests.support.servers import started

MARKER = "zxqjkv"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MODEL = "smollm2-135m-instruct"


@pytest.fixture
async def traced(settings: Settings, engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that traces; the collector is not there, and never asked."""
    app = create_app(settings.model_copy(update={"trace_endpoint": "http://127.0.0.1:9"}), engine)
    async with started(app) as client:
        yield client


@pytest.fixture
def spans(traced: httpx.AsyncClient) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("test"))
    yield exporter
    tracing.use(None)
    provider.shutdown()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    found = exporter.get_finished_spans()
    named = {span.name: span for span in found}
    assert len(named) == len(found)
    return named


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_request_is_a_span_with_three_below(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    story = {"id": MARKER, "title": MARKER}
    answer = await traced.post("/rank", json={"history": [MARKER], "candidates": [story] * 3})
    found = by_name(spans)
    assert set(found) == {"POST /rank", "prompt", "engine", "answer"}
    route = found.pop("POST /rank")
    assert route.parent is None
    assert route.kind is SpanKind.SERVER
    assert attributes(route) == {
        "http.request.method": "POST",
        "http.route": "/rank",
        "http.response.status_code": 200,
        "frontpage.request_id": answer.headers["x-request-id"],
        "frontpage.model": MODEL,
    }
    for span in found.values():
        assert span.parent is not None
        assert span.parent.span_id == route.context.span_id
        assert attributes(span)["frontpage.model"] == MODEL
    usage = answer.json()["usage"]
    assert attributes(found["engine"]) == {"frontpage.model": MODEL, "frontpage.candidates": 3}
    assert attributes(found["answer"]) == {
        "frontpage.model": MODEL,
        "frontpage.prompt_tokens": usage["prompt_tokens"],
        "frontpage.cached_tokens": usage["cached_tokens"],
    }
    times = [found[name].start_time or 0 for name in ("prompt", "engine", "answer")]
    assert times == sorted(times)
    assert not [span for span in (route, *found.values()) if MARKER in span.to_json()]


async def test_a_clients_trace_goes_on(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await traced.post("/predict", json={"target": "t"}, headers=headers)
    for name, span in by_name(spans).items():
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert (f"{span.parent.span_id:016x}" == PARENT) == (name == "POST /predict")


@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-{PARENT}-01", "\xff"])
async def test_a_wrong_traceparent_starts_a_new_trace(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter, header: str
) -> None:
    headers = [(b"traceparent", header.encode("latin-1"))]
    answer = await traced.post("/predict", json={"target": "t"}, headers=headers)
    assert answer.status_code == 200
    assert by_name(spans)["POST /predict"].parent is None


async def test_errors_show_their_type_and_status_only(
    traced: httpx.AsyncClient,
    spans: InMemorySpanExporter,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def explode(*_: object, **__: object) -> None:
        raise RuntimeError(MARKER)

    monkeypatch.setattr(engine, "score", explode)
    answer = await traced.post("/predict", json={"target": MARKER})
    found = by_name(spans)
    assert set(found) == {"POST /predict", "prompt", "engine"}
    for name in ("POST /predict", "engine"):
        assert attributes(found[name])["error.type"] == "RuntimeError"
        assert found[name].status.status_code is StatusCode.ERROR
        assert not found[name].events
        assert not found[name].status.description
    assert found["prompt"].status.status_code is StatusCode.UNSET
    assert answer.status_code == 500


async def test_refusals_are_spans_and_what_is_asked_all_the_time_is_none(
    traced: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    for path in ("/health", "/ready", "/metrics"):
        assert (await traced.get(path)).status_code == 200
    assert not spans.get_finished_spans()
    await traced.post("/predict", json={"target": 7})
    await traced.get(f"/{MARKER}")
    found = by_name(spans)
    assert set(found) == {"POST /predict", "GET"}
    assert attributes(found["POST /predict"])["http.response.status_code"] == 422
    assert attributes(found["GET"])["http.response.status_code"] == 404
    assert found["GET"].status.status_code is StatusCode.UNSET  # a client's mistake is none of ours


async def test_a_collector_gets_the_spans_when_the_service_stops(
    tmp_path: Path, engine: FakeEngine
) -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    settings = Settings(model=SMOLLM2, state=tmp_path, trace_endpoint=endpoint)
    app = create_app(settings, engine)
    try:
        async with started(app) as client:
            await client.post("/predict", json={"target": "t"})
            assert not bodies  # sent in batches, beside the requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (resource,) = [
        one for body in bodies for one in ExportTraceServiceRequest.FromString(body).resource_spans
    ]
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert names["service.name"] == "frontpage"
    found = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(found) == ["POST /predict", "answer", "engine", "prompt"]


def test_a_collector_that_does_not_answer_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "TIMEOUT_S", 3.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with tracing.exporting(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"):
            for _ in range(3000):  # more than are kept
                with tracing.span("one"):
                    pass
            assert time.monotonic() - started < tracing.TIMEOUT_S
        assert time.monotonic() - started < 4 * tracing.TIMEOUT_S  # the SDK's own end takes 30 s
    assert "Queue full" in caplog.text


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    code = (
        "import sys; from app.engine.fake import FakeEngine; from app.main import create_app;"
        " from app.settings import Settings; create_app(Settings(), FakeEngine());"
        " found = [name for name in sys.modules if name.startswith('opentelemetry.sdk')];"
        " sys.exit(str(found[:3]) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
