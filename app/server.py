"""uvicorn with an orderly shutdown: it drains on SIGTERM, and stops when the engine has died."""

import asyncio
import gc
import logging
from contextlib import suppress
from types import FrameType

import uvicorn

from app.errors import EngineUnavailable
from app.http.connection import Connection
from app.observability import metrics
from app.service import Service

logger = logging.getLogger("frontpage")
HEALTH_INTERVAL_S = 0.1
LAG_TIMER_S = 0.05
LAST_ANSWERS_S = 5.0
"""How long a service with a dead engine still reports that, before it exits to be restarted."""


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT starts the drain: new work is refused, /ready fails, and requests
    in progress have `drain_s` seconds to finish. A second signal stops the service at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        config.http = Connection
        config.timeout_keep_alive = service.settings.keep_alive_s
        config.timeout_graceful_shutdown = 1  # it only starts after our own drain
        super().__init__(config)
        self.engine = service.engine
        self.admission = service.admission
        self.drain_s = service.settings.drain_s
        self.engine_died = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT; uvicorn calls this."""
        if self.admission.draining.is_set():
            super().handle_exit(sig, frame)
        self.admission.draining.set()

    async def run_until_end(self) -> None:
        """Serve until a signal or the engine's death; `engine_died` then tells which it was."""
        gc.collect()
        gc.freeze()  # loaded objects are exempt from collection, so later collections are short
        tasks = [asyncio.create_task(work()) for work in (self._drain, self._watch, measure_lag)]
        try:
            await self.serve()
        finally:
            for task in tasks:
                task.cancel()

    async def _drain(self) -> None:
        await self.admission.draining.wait()
        logger.info("stopping: %d requests are in progress", self.admission.requests)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_s):
                await self.admission.idle.wait()
        self.should_exit = True

    async def _watch(self) -> None:
        try:
            while True:
                self.engine.check_health()
                metrics.ENGINE_UP.set(1)
                await asyncio.sleep(HEALTH_INTERVAL_S)
        except EngineUnavailable as error:
            metrics.ENGINE_UP.set(0)
            self.engine_died = True
            logger.error("%s; the service exits in %.0f s", error, LAST_ANSWERS_S)
            await asyncio.sleep(LAST_ANSWERS_S)
            self.should_exit = True


async def measure_lag() -> None:
    """Record in the metric how late the event loop runs a timer, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_TIMER_S
        await asyncio.sleep(LAG_TIMER_S)
        metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))
