"""How large a body may be."""

from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import BodyTooLarge, respond


class BodyLimit:
    """Answers 413 before more than `max_bytes` are read, whatever Content-Length says."""

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

        with suppress(BodyTooLarge):  # FastAPI answers it by itself; `watched` drops that answer
            await self.app(scope, counted, watched)
        if read > self.max_bytes and not started:
            await self._refuse(scope, receive, send)
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(f"the body is larger than {self.max_bytes} bytes")
        await respond(error, scope["state"]["request_id"])(scope, receive, send)
