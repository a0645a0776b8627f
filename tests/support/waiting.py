"""Waiting for what a test needs, without limits that a busy machine breaks."""

import asyncio
from collections.abc import Callable, Sequence

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.scoring.prompt import Prompt

HANG_S = 600.0  # nothing needs so long: it only ends a test that would never end


async def until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError if the condition never holds."""
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)


class HeldEngine(FakeEngine):
    """Answers nothing from `hold` on until `release`."""

    def __init__(self) -> None:
        super().__init__()
        self._free = asyncio.Event()
        self.release()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        self.running += len(prompts)
        try:
            await self._free.wait()
        except asyncio.CancelledError:
            self.aborted += len(prompts)
            raise
        finally:
            self.running -= len(prompts)
        return await super().score(prompts, labels, adapter, request_id)
