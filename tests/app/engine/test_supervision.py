"""The engine's supervision and replacement, with fake engines that die, hang and fail to start."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app.engine import supervision
from app.engine.fake import FakeEngine
from app.engine.replaceable import ReplaceableEngine
from app.engine.supervision import Supervision
from app.errors import EngineStarting, EngineUnavailable, StartupError
from app.scoring.prompt import Prompt
from tests.support.waiting import HANG_S, until

LABELS = (1, 2)
PROMPTS = [Prompt((1, 2, 3), (4,), 0)]


class Engine(FakeEngine):
    """hangs: pings are not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[Sequence[int]] = []
        self.hangs = self.killed = self.fails = False

    async def start(self) -> None:
        if self.fails:
            raise StartupError("no memory")

    async def kill(self) -> None:
        await super().kill()
        self.killed = True

    async def use_labels(self, token_ids: Sequence[int]) -> None:
        self.labels.append(token_ids)

    async def ping(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await super().ping()


class Plant:
    """Makes engines; those that `coming` holds come first."""

    def __init__(self) -> None:
        self.made: list[Engine] = []
        self.coming: list[Engine] = []

    def __call__(self) -> Engine:
        engine = self.coming.pop(0) if self.coming else Engine()
        self.made.append(engine)
        return engine


@pytest.fixture
def plant() -> Plant:
    return Plant()


@pytest.fixture
def engine(plant: Plant) -> ReplaceableEngine:
    return ReplaceableEngine(plant)


def supervise(engine: ReplaceableEngine, restarts: int = 3, hang_s: float = HANG_S) -> Supervision:
    async def begin() -> None:
        await engine.use_labels(LABELS)
        await engine.start()
        await engine.load_adapter("news@1", Path("news"))

    async def prove() -> None:
        await engine.score(PROMPTS, LABELS, "news@1", "start")

    return Supervision(engine, begin, prove, restarts, hang_s)


@asynccontextmanager
async def kept_up(
    supervised: Supervision,
) -> AsyncIterator[asyncio.Task[None]]:
    await supervised.start()
    task: asyncio.Task[None] = asyncio.create_task(supervised.keep_up())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, EngineUnavailable):
            await task


def restarts(reason: str) -> float:
    labels = {"reason": reason}
    return REGISTRY.get_sample_value("frontpage_engine_restarts_total", labels) or 0.0


async def test_a_dead_engine_is_replaced_by_one_with_its_labels_and_adapters(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    before, supervised = restarts("died"), supervise(engine)
    async with kept_up(supervised):
        known = await engine.score(PROMPTS, LABELS, "news@1", "a")
        [first] = plant.made
        first.dead = True
        await supervised.away.wait()
        assert supervised.state == "restarting"
        assert REGISTRY.get_sample_value("frontpage_engine_up") == 0
        await supervised.ready.wait()
        [_, second] = plant.made
        assert first.killed
        assert (second.labels, second.adapters) == ([LABELS], {"news@1"})
        assert await engine.score(PROMPTS, LABELS, "news@1", "a") == known
    assert restarts("died") - before == 1
    assert REGISTRY.get_sample_value("frontpage_engine_up") == 1


async def test_a_hung_engine_is_killed_and_replaced(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    before, supervised = restarts("hung"), supervise(engine, hang_s=0.1)
    async with kept_up(supervised):
        plant.made[0].hangs = True
        await supervised.away.wait()
        await supervised.ready.wait()
        assert plant.made[0].killed
    assert restarts("hung") - before == 1


class LateOnce(Engine):
    """One ping is late by twice the limit."""

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1
        if self.pings == 1:
            await asyncio.Event().wait()


async def test_one_late_ping_is_no_hanging_engine(plant: Plant, engine: ReplaceableEngine) -> None:
    """This process may have been stopped itself."""
    late = LateOnce()
    plant.coming = [late]
    async with kept_up(supervise(engine, hang_s=0.1)):
        await until(lambda: late.pings > 3)
    assert len(plant.made) == 1


async def test_while_there_is_no_engine_calls_say_so_at_once(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    with pytest.raises(EngineStarting):
        await engine.score(PROMPTS, LABELS, None, "a")
    await engine.start()
    with pytest.raises(EngineStarting, match="news@1"):
        await engine.score(PROMPTS, LABELS, "news@1", "a")
    await engine.kill()
    for call in (
        engine.score(PROMPTS, LABELS, None, "a"),
        engine.load_adapter("news@1", Path("news")),
        engine.ping(),
    ):
        with pytest.raises(EngineUnavailable, match="started again") as raised:
            await call
        assert raised.value.reason == "engine"
    with pytest.raises(EngineUnavailable):
        _ = engine.openai


async def test_an_adapter_unloaded_in_the_meantime_stays_away(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    loading = asyncio.Event()

    class Slow(Engine):
        async def load_adapter(self, name: str, path: Path) -> None:
            await super().load_adapter(name, path)
            if name == "b@1":
                loading.set()
                await going_on.wait()

    going_on = asyncio.Event()
    await engine.start()
    for name in ("a@1", "b@1", "c@1"):
        await engine.load_adapter(name, Path(name))
    await engine.kill()
    await engine.unload_adapter("a@1")
    slow = Slow()
    plant.coming = [slow]
    starting = asyncio.create_task(engine.start())
    await loading.wait()
    await engine.unload_adapter("c@1")
    going_on.set()
    await starting
    assert slow.adapters == {"b@1"}


async def test_the_first_start_is_not_tried_again(plant: Plant, engine: ReplaceableEngine) -> None:
    broken = Engine()
    broken.fails = True
    plant.coming = [broken]
    with pytest.raises(StartupError, match="no memory"):
        await supervise(engine).start()
    assert broken.killed
    assert len(plant.made) == 1


async def test_an_engine_that_dies_while_it_starts_is_a_failed_start(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    """As if the kernel had killed it for its memory."""

    class Killed(Engine):
        async def load_adapter(self, name: str, path: Path) -> None:
            self.dead = True
            self.check_health()

    plant.coming = [Killed()]
    with pytest.raises(StartupError, match="did not start: the engine has died"):
        await supervise(engine).start()


async def test_tries_are_bounded(
    plant: Plant, engine: ReplaceableEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PAUSE_S", 0.01)
    supervised = supervise(engine, restarts=2)
    async with kept_up(supervised) as task:
        for _ in range(2):
            broken = Engine()
            broken.fails = True
            plant.coming.append(broken)
        plant.made[0].dead = True
        with pytest.raises(EngineUnavailable, match="could not be started again: no memory"):
            await task
    assert supervised.state == "failed"
    assert len(plant.made) == 3
    assert all(one.killed for one in plant.made)


async def test_without_tries_the_first_death_is_the_last(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    async with kept_up(supervise(engine, restarts=0)) as task:
        plant.made[0].dead = True
        with pytest.raises(EngineUnavailable, match="the engine has died"):
            await task
    assert len(plant.made) == 1


async def test_old_tries_do_not_count(
    plant: Plant, engine: ReplaceableEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "WINDOW_S", 0.0)
    supervised = supervise(engine, restarts=1)
    async with kept_up(supervised):
        for _ in range(3):
            plant.made[-1].dead = True
            await supervised.away.wait()
            await supervised.ready.wait()
    assert len(plant.made) == 4


class Unprovable(Engine):
    """Dies, or hangs, at its first score."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.will_hang = hangs

    async def score(self, *_: object) -> list[object]:  # type: ignore[override]
        self.hangs, self.dead = self.will_hang, not self.will_hang
        if self.hangs:
            await asyncio.Event().wait()
        self.check_health()
        return []


@pytest.mark.parametrize("hangs", [True, False])
async def test_an_engine_without_a_first_score_is_replaced_in_turn(
    plant: Plant, engine: ReplaceableEngine, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(supervision, "PAUSE_S", 0.01)
    supervised = supervise(engine, hang_s=0.1)
    async with kept_up(supervised):
        plant.coming = [Unprovable(hangs=hangs)]
        plant.made[0].dead = True
        await supervised.away.wait()
        await supervised.ready.wait()
    assert len(plant.made) == 3
    assert plant.made[1].killed


async def test_a_start_that_is_given_up_ends_the_engine(
    plant: Plant, engine: ReplaceableEngine
) -> None:
    begun = asyncio.Event()

    class Endless(Engine):
        async def start(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    plant.coming = [Endless()]
    starting = asyncio.create_task(supervise(engine).start())
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert plant.made[0].killed
