"""Each instance follows what is desired, and reports what it does.

While the store is away, an instance goes on with what it has.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ValidationError

from app.errors import EngineUnavailable, StoreUnavailable
from app.models.desired import Desired
from app.models.local import LocalAdapters
from app.models.registry import model_of

logger = logging.getLogger("frontpage")

POLL_S = 0.5
REPORT_S = 1.0
PAUSE_S = 1.0
"""How many seconds to wait after the engine refused."""


class ReportedAdapter(BaseModel):
    """An adapter at one instance. version: see AdapterStatus."""

    name: str
    version: int
    status: Literal["serving", "loading", "failed"]
    error: str | None = None


class InstanceReport(BaseModel):
    """What an instance reports. revision: the newest desired state that it knows."""

    revision: int
    adapters: list[ReportedAdapter]


@dataclass(frozen=True, slots=True)
class Instance:
    """age_s: how many seconds ago it reported."""

    name: str
    report: InstanceReport
    age_s: float


class Following:
    """name: of this instance."""

    def __init__(self, name: str, desired: Desired, local: LocalAdapters) -> None:
        self.name = name
        self._desired = desired
        self._local = local
        self._changed = asyncio.Event()
        self._failing = False
        self._tasks: list[asyncio.Task[None]] = []
        desired.watch(self._changed.set)

    async def start(self) -> None:
        await self._report(first=True)
        for work in (self._poll_until_stop, self._bring_until_stop, self._report_until_stop):
            self._tasks.append(asyncio.create_task(watched(work)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        with suppress(StoreUnavailable):
            await self._desired.state.leave(self.name)

    async def catch_up(self, names: Iterable[str]) -> None:
        """Bring adapters here that another instance may have loaded a moment ago. Raises
        StoreUnavailable."""
        missing = {model_of(name) for name in names if name not in self._local.models}
        if missing:
            await self._desired.refresh()
            if missing & self._desired.content.adapters.keys():
                await self._local.bring()

    async def instances(self) -> list[Instance]:
        """This one, and as far as the store can be read the others that have reported lately."""
        others = []
        try:
            for found in await self._desired.state.reports():
                with suppress(ValidationError):  # of another version of the service
                    report = InstanceReport.model_validate_json(found.state)
                    others.append(Instance(found.name, report, found.age_s))
        except StoreUnavailable:
            pass
        own = Instance(self.name, self._own_report(), 0.0)
        return [own, *(one for one in others if one.name != self.name)]

    def _own_report(self) -> InstanceReport:
        return InstanceReport(
            revision=self._desired.number,
            adapters=[
                ReportedAdapter(
                    name=one.name, version=one.version, status=one.status, error=one.error
                )
                for one in self._local.statuses()
            ],
        )

    async def _report(self, first: bool = False) -> None:
        with suppress(StoreUnavailable):
            text = self._own_report().model_dump_json(exclude_none=True)
            await self._desired.state.report(self.name, text, first)

    async def _report_until_stop(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await self._report()

    async def _poll_until_stop(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._desired.poll()
            except StoreUnavailable as error:
                if not self._failing:
                    logger.warning("going on with the adapters and aliases known: %s", error)
                self._failing = True
            else:
                self._failing = False

    async def _bring_until_stop(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._local.retry_in()):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._local.bring()
            except EngineUnavailable as error:
                logger.warning("adapters can't be changed: %s", error)
                await asyncio.sleep(PAUSE_S)
                self._changed.set()


async def watched(work: Callable[[], Awaitable[None]]) -> None:
    """Do not let a fault of ours end `work` without a word."""
    try:
        await work()
    except Exception:
        logger.exception("this instance does not follow the others any more")
        raise
