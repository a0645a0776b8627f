"""Watching the engine, and starting it again when it has died or hangs."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal, NoReturn

from app.engine.base import Engine
from app.errors import EngineUnavailable, ServiceError, StartupError
from app.observability import metrics

logger = logging.getLogger("frontpage")

State = Literal["loading", "ready", "restarting", "failed"]
Loss = Literal["died", "hung"]

HEALTH_INTERVAL_S = 0.1
WINDOW_S = 600.0
"""Of so many seconds, the restarts are counted."""
PAUSE_S = 1.0
"""How long to wait after a restart that has failed; after each further one, twice as long."""


class Supervision:
    """loading → ready ⇄ restarting → failed.

    begin: starts the first engine, and all that needs it. prove: gets a first score of each model.
    restarts: how many there may be within WINDOW_S.
    hang_s: for how long the engine may answer nothing.
    """

    def __init__(
        self,
        engine: Engine,
        begin: Callable[[], Coroutine[Any, Any, None]],
        prove: Callable[[], Coroutine[Any, Any, None]],
        restarts: int,
        hang_s: float,
    ) -> None:
        self.state: State = "loading"
        self.is_watching = False
        self.ready, self.away = asyncio.Event(), asyncio.Event()
        self._engine = engine
        self._begin = begin
        self._prove = prove
        self._restarts = restarts
        self._hang_s = hang_s
        self._tries: deque[float] = deque()

    async def start(self) -> None:
        """The first start, once. It is not tried again: what keeps an engine from its first answer
        is mostly a setting or the machine. Raises StartupError."""
        began = time.monotonic()
        try:
            await self._begin()
        except EngineUnavailable as error:
            raise StartupError(f"the engine did not start: {error}") from error
        self._be_ready(began)

    async def keep_up(self) -> NoReturn:
        """Watch the engine, and start it again as often as it may be. Raises EngineUnavailable when
        it may not any more."""
        self.is_watching = True
        while True:
            await self._replace(await self._until_lost())

    def _be_ready(self, began: float) -> None:
        metrics.ENGINE_START_SECONDS.set(time.monotonic() - began)
        self._enter("ready")

    def _enter(self, state: State) -> None:
        self.state = state
        here, gone = (self.ready, self.away) if state == "ready" else (self.away, self.ready)
        here.set()
        gone.clear()
        metrics.ENGINE_UP.set(state == "ready")

    async def _until_lost(self) -> Loss:
        watches = [asyncio.create_task(work()) for work in (self._until_dead, self._until_hung)]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for one in watches:
                one.cancel()

    async def _until_dead(self) -> Loss:
        try:
            while True:
                self._engine.check_health()
                await asyncio.sleep(HEALTH_INTERVAL_S)
        except EngineUnavailable:
            return "died"

    async def _until_hung(self) -> Loss:
        """Two pings in a row without an answer: one can be late because this process was stopped
        for a while."""
        missed = 0
        while missed < 2:
            await asyncio.sleep(self._hang_s / 20)
            try:
                async with asyncio.timeout(self._hang_s / 2):
                    await self._engine.ping()
                missed = 0
            except TimeoutError:
                missed += 1
            except EngineUnavailable:
                return "died"
        return "hung"

    async def _replace(self, loss: Loss) -> None:
        began, pause_s, why = time.monotonic(), PAUSE_S, self._told(loss)
        self._enter("restarting")
        while True:
            await self._engine.kill()
            self._count_try(why)
            metrics.ENGINE_RESTARTS.labels(loss).inc()
            logger.error("%s; it is started again", why)
            try:
                await self._try()
                break
            except (StartupError, ServiceError) as error:
                why = f"the engine could not be started again: {error}"
            await asyncio.sleep(pause_s)
            pause_s *= 2
        self._be_ready(began)
        logger.warning("ready again: the engine was away for %.0f s", time.monotonic() - began)

    def _count_try(self, why: str) -> None:
        """Raises EngineUnavailable if there were too many."""
        now = time.monotonic()
        while self._tries and self._tries[0] < now - WINDOW_S:
            self._tries.popleft()
        if len(self._tries) >= self._restarts:
            self._enter("failed")
            raise EngineUnavailable(why)
        self._tries.append(now)

    async def _try(self) -> None:
        await self._engine.start()
        proving = asyncio.create_task(self._prove())
        losing = asyncio.create_task(self._until_lost())
        try:
            await asyncio.wait({proving, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not proving.done():
                raise EngineUnavailable(self._told(losing.result()))
            await proving
        finally:
            proving.cancel()
            losing.cancel()

    def _told(self, loss: Loss) -> str:
        if loss == "died":
            return "the engine has died"
        return f"the engine hangs: it has not answered for {self._hang_s:g} s"
