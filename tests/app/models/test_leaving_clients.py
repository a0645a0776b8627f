"""Clients that leave, or run out of time, while an adapter changes: the registry, the disk and the
engine agree afterwards."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.models.adapter_folder import copy_files
from app.service import Service
from app.settings import Settings
from tests.support.adapter_calls import load, names, predict, room_for_two, three_versions
from tests.support.models import SMOLLM2

root, settings = pytest.fixture(three_versions), pytest.fixture(room_for_two)
IN_TIME = {"X-Request-Timeout-Ms": "200"}


def on_disk(settings: Settings) -> set[str]:
    return {folder.name for folder in (settings.state / "adapters").iterdir()}


def on_record(settings: Settings) -> dict[str, int]:
    kept = json.loads((settings.state / "registry.json").read_text())["adapters"]
    return {name: adapter["version"] for name, adapter in kept.items()}


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


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


async def test_a_deadline_while_the_old_version_drains_keeps_the_new_one(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine, drained: asyncio.Event
) -> None:
    body = {"name": "news", "path": "v2"}
    answer = await client.post("/adapters", json=body, headers=IN_TIME)
    assert answer.status_code == 504
    assert on_record(settings) == {"news": 2}
    assert on_disk(settings) == {"news@1", "news@2"}
    assert engine.adapters == {"news@1", "news@2"}
    assert (await predict(client, model="news"))["model"] == "news"
    drained.set()
    await until(lambda: engine.adapters == {"news@2"} and on_disk(settings) == {"news@2"})
    assert (await load(client, "news", "v3")).json()["version"] == 3
    assert on_disk(settings) == {"news@3"}


async def test_a_deadline_while_an_unloaded_adapter_drains_unloads_it_all_the_same(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine, drained: asyncio.Event
) -> None:
    assert (await client.delete("/adapters/news", headers=IN_TIME)).status_code == 504
    assert on_record(settings) == {}
    assert await names(client) == [SMOLLM2.name]
    assert engine.adapters == {"news@1"}
    drained.set()
    await until(lambda: not engine.adapters and not on_disk(settings))


async def test_the_next_change_waits_for_a_version_that_still_drains(
    client: httpx.AsyncClient, engine: FakeEngine, drained: asyncio.Event
) -> None:
    """Else the engine would hold more than the one version that it has room for."""
    await client.post("/adapters", json={"name": "news", "path": "v2"}, headers=IN_TIME)
    next_change = asyncio.create_task(load(client, "news", "v3"))
    await asyncio.sleep(0.1)
    assert engine.adapters == {"news@1", "news@2"}
    drained.set()
    assert (await next_change).json()["version"] == 3
    assert engine.adapters == {"news@3"}


async def test_a_version_that_still_drains_at_the_end_leaves_no_files(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, drained: asyncio.Event
) -> None:
    await client.delete("/adapters/news", headers=IN_TIME)
    await app.state.service.adapters.stop()
    assert on_disk(settings) == set()


async def test_a_deadline_while_files_are_copied_leaves_none(
    client: httpx.AsyncClient,
    settings: Settings,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copy_slowly(source: Path, folder: Path) -> None:
        time.sleep(0.4)
        copy_files(source, folder)

    monkeypatch.setattr("app.models.adapters.copy_files", copy_slowly)
    body = {"name": "news", "path": "v1"}
    assert (await client.post("/adapters", json=body, headers=IN_TIME)).status_code == 504
    await asyncio.sleep(0.5)
    assert on_disk(settings) == set()
    assert engine.adapters == set()
    assert await names(client) == [SMOLLM2.name]
