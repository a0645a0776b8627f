"""uvicorn with an orderly end: drained on SIGTERM, stopped when the engine has died."""

import asyncio
import gc
import logging
from contextlib import suppress
from types import FrameType

import uvicorn

from app.errors import EngineUnavailable
from app.observability import metrics
from app.service import Service

logger = logging.getLogger("frontpage")
WATCH_S = 0.1
LAG_S = 0.05
LAST_ANSWERS_S = 5.0
"""For so long a service whose engine is dead says so, before it exits for its supervisor."""


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT drains: new work is refused, /ready fails, what is in flight ends
    within `drain_s`. A second one ends at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        config.timeout_graceful_shutdown = 1  # after our own drain
        super().__init__(config)
        self.engine = service.engine
        self.admission = service.admission
        self.drain_s = service.settings.drain_s
        self.engine_died = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's signal handler."""
        if self.admission.draining.is_set():
            super().handle_exit(sig, frame)
        self.admission.draining.set()

    async def run_until_end(self) -> None:
        """Afterwards `engine_died` says why."""
        gc.collect()
        gc.freeze()  # what was loaded is never collected: later collections stay short
        tasks = [asyncio.create_task(work()) for work in (self._drain, self._watch, measure_lag)]
        try:
            await self.serve()
        finally:
            for task in tasks:
                task.cancel()

    async def _drain(self) -> None:
        await self.admission.draining.wait()
        logger.info("stopping: %d requests are at work", self.admission.requests)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_s):
                await self.admission.idle.wait()
        self.should_exit = True

    async def _watch(self) -> None:
        try:
            while True:
                self.engine.check_health()
                metrics.ENGINE_UP.set(1)
                await asyncio.sleep(WATCH_S)
        except EngineUnavailable as error:
            metrics.ENGINE_UP.set(0)
            self.engine_died = True
            logger.error("%s; the service exits in %.0f s", error, LAST_ANSWERS_S)
            await asyncio.sleep(LAST_ANSWERS_S)
            self.should_exit = True


async def measure_lag() -> None:
    """How late the event loop runs a timer, into the metric."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_S
        await asyncio.sleep(LAG_S)
        metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))
