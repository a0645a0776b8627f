"""What clients get while the engine is loaded, dies and is started again, on a fake one."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import REGISTRY

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.engine.replaceable import ReplaceableEngine
from app.errors import StartupError
from app.main import create_app
from app.models import following
from app.scoring.prompt import Prompt
from app.server import Server
from app.settings import Settings
from loadtests.services import free_port
from tests.support.adapter_calls import load
from tests.support.adapter_folders import write_adapter
from tests.support.rankers import MODEL, titles
from tests.support.waiting import HANG_S, until

RANK: dict[str, Any] = {"candidates": titles(3)}


class Engine(FakeEngine):
    """Its start takes until `loaded`. What it is asked hangs until its death while `is_busy`."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.loaded, self.death = (asyncio.Event() for _ in range(3))
        self.is_busy = self.fails = False

    async def start(self) -> None:
        self.begun.set()
        await self.loaded.wait()
        if self.fails:
            raise StartupError("the engine did not start: no memory")

    async def kill(self) -> None:
        await super().kill()
        self.death.set()

    def die(self) -> None:
        self.dead = True
        self.death.set()

    async def score(
        self,
        prompts: Sequence[Prompt],
        labels: tuple[int, int],
        adapter: str | None,
        request_id: str,
    ) -> list[LabelScore]:
        if self.is_busy:
            self.running += 1
            await self.death.wait()
        return await super().score(prompts, labels, adapter, request_id)


@dataclass
class Away:
    client: httpx.AsyncClient
    server: Server
    ended: asyncio.Task[None]
    engines: list[Engine]

    async def rank(self, **fields: Any) -> httpx.Response:
        return await self.client.post("/rank", json=RANK | fields)

    async def status(self, path: str) -> int:
        return (await self.client.get(path)).status_code


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Away]:
    """As `python -m app` does it."""
    engines = [Engine() for _ in range(4)]
    coming = iter(engines)
    app = create_app(settings, ReplaceableEngine(lambda: next(coming)))
    async with app.state.service.opened():
        port = free_port()
        config = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
        server = Server(config, app.state.service)
        ended = asyncio.create_task(server.run_until_end())
        await server.listening.wait()
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=HANG_S) as client:
            yield Away(client, server, ended, engines)
        server.should_exit = True
        await ended


@asynccontextmanager
async def ready(settings: Settings) -> AsyncIterator[Away]:
    async with serving(settings) as away:
        away.engines[0].loaded.set()
        await away.server.supervision.ready.wait()
        yield away


@pytest.fixture
def settings(ranked: Path, encoder: Path, tmp_path: Path) -> Settings:
    write_adapter(tmp_path / "root" / "v1")
    return Settings(
        model=ranked, encoder=encoder, state=tmp_path / "state", adapter_root=tmp_path / "root"
    )


def degraded(reason: str) -> float:
    labels = {"model": MODEL, "reason": reason}
    return REGISTRY.get_sample_value("frontpage_degraded_total", labels) or 0.0


def refused(response: httpx.Response) -> bool:
    body = response.json()
    is_away = response.status_code == 503 and body["error"]["code"] == "engine_unavailable"
    return is_away and int(response.headers["retry-after"]) > 0


async def test_the_first_answers_come_before_the_engine(settings: Settings) -> None:
    before = degraded("starting")
    async with serving(settings) as away:
        answer = (await away.rank()).json()
        assert answer["degraded"]
        assert answer["ranker"]
        assert degraded("starting") - before == 1
        health = await away.client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "engine": "loading"})
        assert refused(await away.client.get("/ready"))
        able = await away.client.get("/ready", params={"level": "degraded"})
        assert able.json() == {"status": "ok", "engine": "loading", "level": "degraded"}
        away.engines[0].loaded.set()
        await away.server.supervision.ready.wait()
        assert not (await away.rank()).json()["degraded"]
        full = (await away.client.get("/ready")).json()
        assert full == {"status": "ok", "engine": "ready", "level": "full"}


async def test_what_needs_the_engine_is_refused_until_it_is_there(settings: Settings) -> None:
    async with serving(settings) as away:
        chat = {"messages": [{"role": "user", "content": "Hello"}]}
        for response in (
            await away.client.post("/v1/chat/completions", json=chat),
            await load(away.client, "news", "v1"),
            await away.client.delete("/adapters/news"),
            await away.client.put("/aliases/a", json={"weights": {MODEL: 1}}),
            await away.rank(degraded="refuse"),
            await away.rank(ranker=False),
            await away.rank(model="news"),  # it may be among the adapters that are loaded later
        ):
            assert refused(response), response.text
        [listed] = (await away.client.get("/v1/models")).json()["data"]
        assert (listed["id"], listed["ranker"], listed["max_model_len"]) == (MODEL, True, None)
        away.engines[0].loaded.set()
        await away.server.supervision.ready.wait()
        [listed] = (await away.client.get("/v1/models")).json()["data"]
        assert listed["max_model_len"] == FakeEngine.max_prompt_tokens + 1
        assert (await load(away.client, "news", "v1")).status_code == 201
        assert (await away.rank(model="other")).status_code == 404


async def test_a_death_under_load_fails_nobody_and_leaks_no_tokens(settings: Settings) -> None:
    before = degraded("engine")
    async with ready(settings) as away:
        await load(away.client, "news", "v1")
        known = [(await away.rank(model=name)).json()["results"] for name in (MODEL, "news")]
        first, second, *_ = away.engines
        first.is_busy = True
        asking = [asyncio.create_task(away.rank()) for _ in range(4)]
        demanding = asyncio.create_task(away.rank(degraded="refuse"))
        await until(lambda: first.running == 5)
        first.die()
        answers = [await one for one in asking]
        assert [one.status_code for one in answers] == [200] * 4
        assert all(one.json()["degraded"] for one in answers)
        assert refused(await demanding)
        assert away.server.admission.in_progress == 0
        assert degraded("engine") - before == 4
        await away.server.supervision.away.wait()
        health = (await away.client.get("/health")).json()
        assert health == {"status": "ok", "engine": "restarting"}
        assert await away.status("/ready") == 503
        assert await away.status("/ready?level=degraded") == 200
        assert refused(await load(away.client, "news", "v1"))
        second.loaded.set()
        await away.server.supervision.ready.wait()
        assert second.adapters == {"news@1"}
        now = [(await away.rank(model=name)).json()["results"] for name in (MODEL, "news")]
        assert now == known
        assert away.server.failure is None


async def test_what_others_load_in_the_meantime_comes_with_the_next_engine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.05)
    monkeypatch.setattr(following, "PAUSE_S", 0.05)
    other = settings.model_copy(update={"instance_name": "other"})
    async with ready(settings) as away, ready(other) as elsewhere:
        away.engines[0].die()
        await away.server.supervision.away.wait()
        assert (await load(elsewhere.client, "news", "v1")).status_code == 201
        assert (await away.rank(model="news")).status_code == 404
        away.engines[1].loaded.set()
        await until(lambda: away.engines[1].adapters == {"news@1"})
        await until(lambda: "news" in away.server.service.models)
        assert (await away.rank(model="news")).status_code == 200


async def test_when_the_tries_are_used_up_the_service_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, of which test_overload.py tests the end."""
    monkeypatch.setattr("app.server.LAST_ANSWERS_S", HANG_S)
    once = settings.model_copy(update={"engine_restarts": 1})
    async with ready(once) as away:
        away.engines[1].loaded.set()
        for engine in away.engines[:2]:
            await away.server.supervision.ready.wait()
            engine.die()
            await away.server.supervision.away.wait()
        await until(lambda: away.server.supervision.state == "failed")
        assert refused(await away.client.get("/health"))
        assert (await away.rank()).json()["degraded"]
        assert away.server.failure is not None


async def test_a_failed_first_start_ends_the_service(settings: Settings) -> None:
    async with serving(settings) as away:
        assert (await away.rank()).json()["degraded"]
        away.engines[0].fails = True
        away.engines[0].loaded.set()
        await away.ended
        assert isinstance(away.server.failure, StartupError)
        assert away.engines[0].dead


async def test_a_signal_while_the_engine_loads_ends_both(settings: Settings) -> None:
    async with serving(settings) as away:
        assert (await away.rank()).json()["degraded"]
        await away.engines[0].begun.wait()
        away.server.handle_exit(signal.SIGTERM, None)
        await away.ended
        assert away.server.failure is None
        assert away.engines[0].dead


async def test_without_degraded_answers_readiness_has_one_level(settings: Settings) -> None:
    firm = settings.model_copy(update={"degraded": False})
    async with serving(firm) as away:
        assert refused(await away.rank())
        assert await away.status("/ready?level=degraded") == 503
        assert await away.status("/health") == 200
