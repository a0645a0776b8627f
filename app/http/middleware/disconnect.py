"""Clients that leave before they are answered."""

import asyncio
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """Cancels a request when its client disconnects, which also aborts its engine requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body_read, left, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def receive_body() -> Message:
            if body_read.is_set():  # from here on, only the watcher reads
                await left.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if not message.get("more_body", False):
                body_read.set()
            return message

        async def send_answer(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                answered.set()  # the server then tells of a disconnect, too
            await send(message)

        handler = asyncio.create_task(_run(self.app(scope, receive_body, send_answer)))

        async def watch() -> None:
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()
            if not answered.is_set():
                scope["state"]["client_left"] = True
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
