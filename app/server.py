"""uvicorn and the engine's supervision, with an orderly shutdown: it drains on SIGTERM, and stops
when there is no engine any more."""

import asyncio
import gc
import logging
from contextlib import suppress
from socket import socket
from types import FrameType

import uvicorn

from app.errors import EngineUnavailable
from app.http.connection import Connection
from app.observability import metrics
from app.service import Service

logger = logging.getLogger("frontpage")
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
        self.service = service
        self.supervision = service.supervision
        self.admission = service.admission
        self.drain_s = service.settings.drain_s
        self.listening = asyncio.Event()
        self.failure: Exception | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT; uvicorn calls this."""
        if self.admission.draining.is_set():
            super().handle_exit(sig, frame)
        self.admission.draining.set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Open the port; uvicorn calls this."""
        await super().startup(sockets)
        self.listening.set()

    async def run_until_end(self) -> None:
        """Serve until a signal, or until the engine can't be started (again): `failure` is why."""
        works = (self._supervise, self._drain, self._announce, self._tidy, measure_lag)
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            await self.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gc.unfreeze()

    async def _announce(self) -> None:
        """Say when the language model answers."""
        await self.listening.wait()
        address = f"http://{self.config.host}:{self.config.port}"
        if not self.supervision.ready.is_set():
            logger.info("listening: %s — until the model is loaded, answers are degraded", address)
            await self.supervision.ready.wait()
        logger.info("ready: %s — open it in a browser; the README has calls to try", address)

    async def _tidy(self) -> None:
        """Exempt loaded objects from collection, so that later collections are short. What a lost
        engine has left is collected before."""
        while True:
            await self.supervision.ready.wait()
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            await self.supervision.away.wait()

    async def _drain(self) -> None:
        await self.admission.draining.wait()
        logger.info("stopping: %d requests are in progress", self.admission.requests)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_s):
                await self.admission.idle.wait()
        self.should_exit = True

    async def _supervise(self) -> None:
        """Keep the engine up until the drain begins."""
        keeping = asyncio.create_task(self._keep_engine())
        draining = asyncio.create_task(self.admission.draining.wait())
        try:
            await asyncio.wait({keeping, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            keeping.cancel()
            draining.cancel()
            await asyncio.gather(keeping, draining, return_exceptions=True)

    async def _keep_engine(self) -> None:
        try:
            if not self.supervision.ready.is_set():
                await self.supervision.start()
            await self.supervision.keep_up()
        except EngineUnavailable as error:
            self.failure = error
            logger.error("%s; the service exits in %.0f s", error, LAST_ANSWERS_S)
            await asyncio.sleep(LAST_ANSWERS_S)
        except Exception as error:  # a StartupError, or a fault of ours, which the caller raises
            self.failure = error
        self.should_exit = True


async def measure_lag() -> None:
    """Record in the metric how late the event loop runs a timer, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_TIMER_S
        await asyncio.sleep(LAG_TIMER_S)
        metrics.LOOP_LAG.observe(max(0.0, loop.time() - due))
