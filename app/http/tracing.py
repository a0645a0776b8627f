"""The span of a request."""

from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.policy import policy_for
from app.observability import tracing

W3C = TraceContextTextMapPropagator()


class Tracing:
    """Pure ASGI middleware: the span of a request, under the client's if it sends a traceparent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracer = tracing.tracer_in_use()
        if tracer is None or scope["type"] != "http" or not policy_for(scope).traced:
            return await self.app(scope, receive, send)
        headers, method = Headers(scope=scope), scope["method"]
        parent = W3C.extract({name: headers[name] for name in W3C.fields if name in headers})
        with tracer.start_as_current_span(
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
                with tracing.marking_errors(current):
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
