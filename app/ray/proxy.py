"""Middleware for Ray's HTTP proxies that makes their answers look like the service's.

Ray's proxies load it from RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=app.ray.proxy:middlewares.
Without it, requests get a plain 500 if their replica dies.
"""

import logging

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlineExceeded, EngineUnavailable, Overloaded, ServiceError
from app.http.errors import respond
from app.http.middleware.context import ID_HEADER, choose_id
from app.http.middleware.deadline import MILLISECONDS, TIMEOUT_HEADER

logger = logging.getLogger("frontpage")
RAY_TIMEOUT_HEADER = "x-request-timeout-seconds"
GRACE_S = 0.5
"""How much later Ray's deadline is than the replica's, so that the replica can answer first. Ray's
ends the requests that still wait for a replica."""


class ReplicaLost(EngineUnavailable):
    """The replica died while it handled the request, or there was none."""

    retry_after_s = 1


def middlewares() -> list[Middleware]:
    return [Middleware(OwnShape)]


class OwnShape:
    """Uses one request id on both sides and applies the request's deadline to Ray's queue too.
    Errors that Ray answers by itself, and requests it fails to answer, become a 503 or 504 in the
    service's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = adapt(MutableHeaders(scope=scope))
        error: ServiceError | None = ReplicaLost("no replica has answered; send the request again")

        async def send_ours(message: Message) -> None:
            nonlocal error
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Ray's proxy adds its own header, and a replica's answer already has one.
                from_replica = len(headers.getlist(ID_HEADER)) > 1
                error = None if from_replica else own_error(message["status"])
                headers[ID_HEADER] = request_id
            if error is None:
                await send(message)

        try:
            await self.app(scope, receive, send_ours)
        except Exception:
            logger.exception("Ray's proxy failed")
            if error is None:
                raise  # an answer was under way, so the connection is closed
        if error is not None:
            answer = respond(error, request_id)
            answer.headers[ID_HEADER] = request_id
            await answer(scope, receive, send)
        return None


def adapt(headers: MutableHeaders) -> str:
    """Set the request's id and its deadline for Ray; returns the id."""
    request_id = choose_id(headers)
    headers[ID_HEADER] = request_id
    asked = headers.get(TIMEOUT_HEADER, "")
    if MILLISECONDS.fullmatch(asked):
        headers[RAY_TIMEOUT_HEADER] = str(int(asked) / 1e3 + GRACE_S)
    return request_id


def own_error(status: int) -> ServiceError | None:
    """The error for a status that Ray's proxy answered by itself; None for its health checks."""
    if status < 400:
        return None
    if status == 408:
        return DeadlineExceeded("the request was not answered in time")
    if status in (429, 503):
        return Overloaded("overloaded: no replica has room for more, or none is ready")
    return ReplicaLost("the replica failed, or there is none yet; send the request again")
