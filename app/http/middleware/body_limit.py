"""How large a body may be."""

from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import BodyTooLarge, respond
from app.http.policy import policy_for


class BodyLimit:
    """Answers 413 before too many bytes are read, whatever Content-Length says.

    usual, bulk: how many bytes a body may have, and one of a route that takes thousands of items.
    """

    def __init__(self, app: ASGIApp, usual: int, bulk: int) -> None:
        self.app = app
        self.usual = usual
        self.bulk = bulk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = self.bulk if policy_for(scope).bulk else self.usual
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > most:
            return await refuse(most, scope, receive, send)
        read, started = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise BodyTooLarge("stop reading")
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if read <= most:
                started = True
                await send(message)

        with suppress(BodyTooLarge):  # FastAPI answers it by itself; `watched` drops that answer
            await self.app(scope, counted, watched)
        if read > most and not started:
            await refuse(most, scope, receive, send)
        return None


async def refuse(most: int, scope: Scope, receive: Receive, send: Send) -> None:
    error = BodyTooLarge(f"the body is larger than {most} bytes")
    await respond(error, scope["state"]["request_id"])(scope, receive, send)
