"""Pure ASGI middleware (Starlette's BaseHTTPMiddleware hides a client's leaving from handlers)."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from contextlib import suppress
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import Admission
from app.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineUnavailable,
    Overloaded,
    ServiceError,
)
from app.http.errors import BodyTooLarge, respond
from app.http.policy import is_work
from app.observability import metrics
from app.observability.logs import CURRENT_REQUEST

access = logging.getLogger("frontpage.access")
logger = logging.getLogger("frontpage")
ID_HEADER = "x-request-id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TIMEOUT_HEADER = "x-request-timeout-ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,7}")
CLIENT_LEFT = 499  # nginx's code, for logs and metrics only


class RequestContext:
    """Outermost: request id, access log without any text of users, timing, and the last handler."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        request_id = choose_id(Headers(scope=scope))
        scope.setdefault("state", {}).update(
            request_id=request_id, started=started, is_answering=False
        )
        token = CURRENT_REQUEST.set(request_id)
        status = CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                scope["state"]["is_answering"] = True
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request failed")
            if status == CLIENT_LEFT:
                error = ServiceError("internal error; the service's log says more")
                await respond(error, request_id)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if is_work(scope) else "unmatched"  # refused before routing
            route = str(getattr(scope.get("route"), "path", path))
            model = scope["state"].get("model", metrics.NO_MODEL)
            metrics.observe_request(scope["method"], route, model, status, seconds)
            key = scope["state"].get("key")
            name = key.name if key else ""
            access.info(
                "%s %s %s %.1f ms%s",
                *(scope["method"], route, status, seconds * 1e3, f" key={name}" if key else ""),
                extra={"method": scope["method"], "route": route, "status": status, "key": name},
            )
            CURRENT_REQUEST.reset(token)
        return None


def choose_id(headers: Headers) -> str:
    """The request's own id if it has one that can be used, else a new one."""
    sent = headers.get(ID_HEADER, "")
    return sent if REQUEST_ID.fullmatch(sent) else uuid4().hex


class BodyLimit:
    """Answers 413 before more than `max_bytes` are read, whatever a body says of its length."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self.max_bytes:
            return await self._refuse(scope, receive, send)
        read, started = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                raise BodyTooLarge("stop reading")
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if read <= self.max_bytes:
                started = True
                await send(message)

        with suppress(BodyTooLarge):  # FastAPI turns it into an answer of its own, dropped above
            await self.app(scope, counted, watched)
        if read > self.max_bytes and not started:
            await self._refuse(scope, receive, send)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(f"the body is larger than {self.max_bytes} bytes")
        await respond(error, scope["state"]["request_id"])(scope, receive, send)


class Admit:
    """Counts requests that make the engine work, and refuses more than there may be, before their
    bodies are read."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app = app
        self.admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_work(scope):
            return await self.app(scope, receive, send)
        try:
            with self.admission.request():
                await self.app(scope, receive, send)
        except Overloaded as error:  # by the line above: the application answers its own errors
            await respond(error, scope["state"]["request_id"])(scope, receive, send)
        except asyncio.CancelledError:  # by uvicorn, at the end of the drain
            if not self.admission.draining.is_set() or scope["state"]["is_answering"]:
                raise
            stopped = EngineUnavailable("the service has stopped; try another instance")
            await respond(stopped, scope["state"]["request_id"])(scope, receive, send)
        return None


class Deadline:
    """Ends a request, and with it its engine requests, when its time is over."""

    def __init__(self, app: ASGIApp, default_ms: int) -> None:
        self.app = app
        self.default_ms = default_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get(TIMEOUT_HEADER) if scope["type"] == "http" else None
        if asked is None and not is_work(scope):
            return await self.app(scope, receive, send)
        if asked is not None and not MILLISECONDS.fullmatch(asked):
            error = BadRequest(f"{TIMEOUT_HEADER}: whole milliseconds, from 1", TIMEOUT_HEADER)
            return await respond(error, scope["state"]["request_id"])(scope, receive, send)
        milliseconds = int(asked or self.default_ms)
        try:
            async with asyncio.timeout(milliseconds / 1e3) as timeout:
                await self.app(scope, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            metrics.DEADLINES.inc()
            if not scope["state"]["is_answering"]:
                late = DeadlineExceeded(f"not answered within {milliseconds} ms")
                await respond(late, scope["state"]["request_id"])(scope, receive, send)
        return None


class CancelOnDisconnect:
    """Cancels a request's handler when its client leaves, which aborts its engine requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body_read, left = asyncio.Event(), asyncio.Event()

        async def receive_body() -> Message:
            if body_read.is_set():  # the watcher is the only reader from here on
                await left.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if not message.get("more_body", False):
                body_read.set()
            return message

        handler = asyncio.create_task(_run(self.app(scope, receive_body, send)))

        async def watch() -> None:
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()
            handler.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await handler
        except asyncio.CancelledError:
            handler.cancel()
            if not left.is_set():
                raise
        finally:
            watcher.cancel()
        return None


async def _run(work: Awaitable[None]) -> None:
    await work
