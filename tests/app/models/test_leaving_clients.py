"""Clients that leave, or run out of time, while an adapter changes: the registry, the disk and the
engine agree afterwards."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.models.adapter_source import AdapterRoot
from app.service import Service
from app.settings import Settings
from tests.support.adapter_calls import load, names, predict, room_for_two, three_versions
from tests.support.instances import desired_in
from tests.support.models import SMOLLM2
from tests.support.waiting import HANG_S, until

root, settings = pytest.fixture(three_versions), pytest.fixture(room_for_two)


def on_disk(settings: Settings) -> set[str]:
    return {folder.name for folder in (settings.state / "adapters").iterdir()}


def on_record(settings: Settings) -> dict[str, int]:
    return {name: kept.version for name, kept in desired_in(settings.store_url).adapters.items()}


async def leave(request: Coroutine[Any, Any, httpx.Response], once: Callable[[], bool]) -> None:
    """The client of `request` leaves once a condition holds."""
    asking = asyncio.create_task(request)
    await until(once)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.fixture
async def drained(client: httpx.AsyncClient, app: FastAPI) -> Any:
    """`news` is served, and a request that uses it goes on until it is told to end."""
    await load(client, "news", "v1")
    service: Service = app.state.service
    end = asyncio.Event()

    async def use() -> None:
        with service.models.at_work(service.models.get("news")):
            await end.wait()

    at_work = asyncio.create_task(use())
    await asyncio.sleep(0)
    yield end
    end.set()
    await at_work


async def test_a_deadline_while_the_old_version_drains_is_a_504(
    client: httpx.AsyncClient, settings: Settings, drained: asyncio.Event
) -> None:
    body, header = {"name": "news", "path": "v2"}, {"X-Request-Timeout-Ms": "1500"}
    assert (await client.post("/adapters", json=body, headers=header)).status_code == 504
    assert on_record(settings) == {"news": 2}
    assert on_disk(settings) == {"news@1", "news@2"}


async def test_a_client_that_leaves_while_the_old_version_drains_keeps_the_new_one(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine, drained: asyncio.Event
) -> None:
    await leave(load(client, "news", "v2"), lambda: on_record(settings) == {"news": 2})
    assert on_record(settings) == {"news": 2}
    assert on_disk(settings) == {"news@1", "news@2"}
    assert engine.adapters == {"news@1", "news@2"}
    assert (await predict(client, model="news"))["model"] == "news"
    drained.set()
    await until(lambda: engine.adapters == {"news@2"} and on_disk(settings) == {"news@2"})
    assert (await load(client, "news", "v3")).json()["version"] == 3
    assert on_disk(settings) == {"news@3"}


async def test_a_client_that_leaves_while_an_adapter_drains_unloads_it_all_the_same(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine, drained: asyncio.Event
) -> None:
    await leave(client.delete("/adapters/news"), lambda: not on_record(settings))
    assert await names(client) == [SMOLLM2.name]
    assert engine.adapters == {"news@1"}
    drained.set()
    await until(lambda: not engine.adapters and not on_disk(settings))


async def test_the_next_change_waits_for_a_version_that_still_drains(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine, drained: asyncio.Event
) -> None:
    """Else the engine would hold more than the one version that it has room for."""
    await leave(load(client, "news", "v2"), lambda: on_record(settings) == {"news": 2})
    next_change = asyncio.create_task(load(client, "news", "v3"))
    await asyncio.sleep(0.1)
    assert engine.adapters == {"news@1", "news@2"}
    drained.set()
    assert (await next_change).json()["version"] == 3
    assert engine.adapters == {"news@3"}


async def test_a_version_that_still_drains_at_the_end_leaves_no_files(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, drained: asyncio.Event
) -> None:
    await leave(client.delete("/adapters/news"), lambda: not on_record(settings))
    await app.state.service.local.stop()
    assert on_disk(settings) == set()


async def test_a_client_that_leaves_while_files_are_copied_leaves_none(
    client: httpx.AsyncClient,
    settings: Settings,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copying, go_on = threading.Event(), threading.Event()

    copy = AdapterRoot.copy

    def copy_slowly(self: AdapterRoot, source: str, folder: Path) -> None:
        copying.set()
        assert go_on.wait(HANG_S)
        copy(self, source, folder)

    monkeypatch.setattr(AdapterRoot, "copy", copy_slowly)
    leaving = asyncio.create_task(leave(load(client, "news", "v1"), copying.is_set))
    await until(copying.is_set)
    await asyncio.sleep(0.1)
    go_on.set()
    await leaving
    assert on_disk(settings) == set()
    assert engine.adapters == set()
    assert await names(client) == [SMOLLM2.name]
