"""How long a request may take."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadRequest, DeadlineExceeded
from app.http.errors import end_with
from app.http.policy import is_work
from app.observability import metrics

TIMEOUT_HEADER = "x-request-timeout-ms"
MILLISECONDS = re.compile(r"[1-9][0-9]{0,7}")


class Deadline:
    """Cancels a request at its deadline, which also aborts its engine requests."""

    def __init__(self, app: ASGIApp, default_ms: int) -> None:
        self.app = app
        self.default_ms = default_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get(TIMEOUT_HEADER) if scope["type"] == "http" else None
        if asked is None and not is_work(scope):
            return await self.app(scope, receive, send)
        if asked is not None and not MILLISECONDS.fullmatch(asked):
            error = BadRequest(
                f"{TIMEOUT_HEADER}: must be a whole number of milliseconds, at least 1",
                TIMEOUT_HEADER,
            )
            return await end_with(error, scope, receive, send)
        milliseconds = int(asked or self.default_ms)
        try:
            async with asyncio.timeout(milliseconds / 1e3) as timeout:
                scope["state"]["deadline"] = timeout.when()
                await self.app(scope, receive, send)
        except TimeoutError:
            if not timeout.expired():
                raise
            metrics.DEADLINES.inc()
            late = DeadlineExceeded(f"not answered within {milliseconds} ms")
            await end_with(late, scope, receive, send)
        return None
