"""Around everything else: the request's id, its time, the access log and the last handler."""

import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ServiceError
from app.http.errors import EVENT_STREAM, respond
from app.http.policy import is_work, policy_for
from app.observability import metrics
from app.observability.logs import CURRENT_REQUEST

access = logging.getLogger("frontpage.access")
logger = logging.getLogger("frontpage")
ID_HEADER = "x-request-id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CLIENT_LEFT = 499  # nginx's code, for logs and metrics only


class RequestContext:
    """The outermost middleware: sets the request's id, measures its time, writes the access log
    (without any user text) and answers exceptions that nothing else has handled."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        request_id = choose_id(Headers(scope=scope))
        scope.setdefault("state", {}).update(
            request_id=request_id,
            started=started,
            is_answering=False,
            is_streaming=False,
            client_left=False,
        )
        token = CURRENT_REQUEST.set(request_id)
        status = CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                scope["state"]["is_answering"] = True
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[ID_HEADER] = request_id
                kind = headers.get("content-type", "")
                scope["state"]["is_streaming"] = kind.startswith(EVENT_STREAM)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request failed")
            if status == CLIENT_LEFT:
                error = ServiceError("internal error; see the service's log")
                await respond(error, request_id)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            if scope["state"]["client_left"]:
                status = CLIENT_LEFT
            # Without a route, the request was refused before routing, or no route matched.
            path = scope["path"] if is_work(scope) else "unmatched"
            route = str(getattr(scope.get("route"), "path", path))
            model = scope["state"].get("model", metrics.NO_MODEL)
            metrics.observe_request(scope["method"], route, model, status, seconds)
            key = scope["state"].get("key")
            name = key.name if key else ""
            access.log(
                log_level(scope, status),
                "%s %s %s %.1f ms%s",
                *(scope["method"], route, status, seconds * 1e3, f" key={name}" if key else ""),
                extra={"method": scope["method"], "route": route, "status": status, "key": name},
            )
            CURRENT_REQUEST.reset(token)
        return None


def log_level(scope: Scope, status: int) -> int:
    """Monitoring and the page poll the paths without spans every few seconds; as long as these
    answer, their lines would only hide the others."""
    polled = scope["method"] == "GET" and status < 400 and not policy_for(scope).traced
    return logging.DEBUG if polled else logging.INFO


def choose_id(headers: Headers) -> str:
    """The id that the request brings, if it is well-formed, or a new one."""
    sent = headers.get(ID_HEADER, "")
    return sent if REQUEST_ID.fullmatch(sent) else uuid4().hex
