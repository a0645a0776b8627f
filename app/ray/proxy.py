"""What Ray's HTTP proxies run around each request, so that their answers are like the service's.

Ray's proxies load it from RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=app.ray.proxy:middlewares.
Without it, the requests of a replica that dies get a plain 500.
"""

import logging

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlineExceeded, EngineUnavailable, Overloaded, ServiceError
from app.http.errors import respond
from app.http.middleware import ID_HEADER, MILLISECONDS, TIMEOUT_HEADER, choose_id

logger = logging.getLogger("frontpage")
RAY_TIMEOUT = "x-request-timeout-seconds"
GRACE_S = 0.5
"""The replica's own deadline comes first; Ray's ends what waits for a replica."""


class ReplicaLost(EngineUnavailable):
    """It died with the request, or none was there."""

    retry_after_s = 1


def middlewares() -> list[Middleware]:
    return [Middleware(OwnShape)]


class OwnShape:
    """One request id on both sides; the request's deadline also for Ray's queue; what Ray answers
    by itself, or does not answer, as a 503 or 504 in the service's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = adapt(MutableHeaders(scope=scope))
        error: ServiceError | None = ReplicaLost("no replica has answered; send it again")

        async def send_ours(message: Message) -> None:
            nonlocal error
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Ray's proxy adds its own; a replica's answer has one already.
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
                raise  # in the middle of an answer: the connection is closed
        if error is not None:
            answer = respond(error, request_id)
            answer.headers[ID_HEADER] = request_id
            await answer(scope, receive, send)
        return None


def adapt(headers: MutableHeaders) -> str:
    """Sets the request's id, which is returned, and its deadline for Ray."""
    request_id = choose_id(headers)
    headers[ID_HEADER] = request_id
    asked = headers.get(TIMEOUT_HEADER, "")
    if MILLISECONDS.fullmatch(asked):
        headers[RAY_TIMEOUT] = str(int(asked) / 1e3 + GRACE_S)
    return request_id


def own_error(status: int) -> ServiceError | None:
    """For a status that Ray's proxy gives by itself; None for its health checks."""
    if status < 400:
        return None
    if status == 408:
        return DeadlineExceeded("not answered in time")
    if status in (429, 503):
        return Overloaded("overloaded: no replica has room for more, or none is ready")
    return ReplicaLost("no replica is there yet, or it failed; send it again")
