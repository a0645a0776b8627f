"""Requests that make the engine work, counted and refused before their bodies are read."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from app.admission import Admission
from app.errors import EngineUnavailable, Overloaded
from app.http.errors import end_with
from app.http.policy import is_work, policy_for


class Admit:
    """Counts the requests that make the engine work, and refuses those beyond the limits before
    their bodies are read."""

    def __init__(self, app: ASGIApp, admission: Admission, *, degrades: bool) -> None:
        """degrades: answers without the engine are allowed, so those that can be answered so are
        refused only when there are too many."""
        self.app = app
        self.admission = admission
        self.degrades = degrades

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_work(scope):
            return await self.app(scope, receive, send)
        try:
            can_degrade = self.degrades and policy_for(scope).degrades
            scope["state"]["draining"] = self.admission.draining.is_set()
            with self.admission.request(can_degrade=can_degrade):
                await self.app(scope, receive, send)
        except Overloaded as error:  # raised by admission; the application answers its own errors
            await end_with(error, scope, receive, send)
        except asyncio.CancelledError:  # uvicorn cancels requests at the end of the drain
            if not self.admission.draining.is_set():
                raise
            stopped = EngineUnavailable("the service has stopped; try another instance")
            await end_with(stopped, scope, receive, send)
        return None
