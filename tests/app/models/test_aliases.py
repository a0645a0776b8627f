"""Aliases and experiments while serving, and what a restart finds, on the fake engine."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.engine.fake import FakeEngine
from app.errors import StartupError
from app.main import create_app
from app.settings import Settings
from tests.support.adapter_calls import (
    BASE,
    error,
    load,
    names,
    predict,
    room_for_two,
    three_versions,
)
from tests.support.instances import desired_in
from tests.support.servers import started
from tests.support.waiting import HeldEngine, until

root, settings = pytest.fixture(three_versions), pytest.fixture(room_for_two)


async def test_aliases_move_and_roll_back(client: httpx.AsyncClient) -> None:
    await load(client, "news-1", "v1")
    await load(client, "news-2", "v2")
    assert (await predict(client))["model"] == BASE
    for model in ("news-1", "news-2", "news-1"):
        response = await client.put("/aliases/default", json={"weights": {model: 1}})
        assert response.json() == {"alias": "default", "weights": {model: 1}}
        assert (await predict(client))["model"] == model
        assert (await predict(client, model="default"))["model"] == model
    assert error(await client.delete("/adapters/news-1"))[:2] == (409, "conflict")
    assert (await client.delete("/adapters/news-2")).json() == {"removed": "news-2"}
    assert await names(client) == [BASE, "news-1", "default"]
    assert (await client.delete("/aliases/default")).status_code == 200
    assert (await predict(client))["model"] == BASE


@pytest.mark.parametrize(
    ("alias", "weights", "expected"),
    [
        ("x", {"nothing": 1}, (404, "model_not_found", "weights.nothing")),
        ("x", {BASE: 0}, (422, "invalid_value", "weights")),
        ("x", {BASE: -1}, (422, "invalid_value", f"weights.{BASE}")),
        ("x", {}, (422, "invalid_value", "weights")),
        (BASE, {BASE: 1}, (409, "conflict", "alias")),
        ("a@b", {BASE: 1}, (422, "invalid_value", "alias")),
    ],
)
async def test_bad_aliases(
    client: httpx.AsyncClient, alias: str, weights: dict[str, float], expected: tuple[int, str, str]
) -> None:
    assert error(await client.put(f"/aliases/{alias}", json={"weights": weights})) == expected
    assert (await client.get("/aliases")).json() == {"aliases": []}


async def test_an_experiment_splits_readers_and_keeps_them(client: httpx.AsyncClient) -> None:
    await load(client, "news", "v1")
    await client.put("/aliases/default", json={"weights": {BASE: 25, "news": 75}})
    readers = [f"reader-{number}" for number in range(200)]
    first = [(await predict(client, reader_id=reader))["model"] for reader in readers]
    again = [(await predict(client, reader_id=reader))["model"] for reader in readers]
    assert first == again
    assert 0.65 < first.count("news") / len(first) < 0.85
    text = (await client.get("/metrics")).text
    assert 'frontpage_requests_total{method="POST",model="news",route="/predict"' in text


async def test_an_alias_moves_between_requests_never_within_one(
    client: httpx.AsyncClient, engine: HeldEngine
) -> None:
    await load(client, "news", "v1")
    engine.hold()
    body = {"candidates": [f"title {number}" for number in range(50)], "model": "front"}
    await client.put("/aliases/front", json={"weights": {"news": 1}})
    at_work = asyncio.create_task(client.post("/rank", json=body))
    await until(lambda: engine.running == 50)
    await client.put("/aliases/front", json={"weights": {BASE: 1}})
    removed = asyncio.create_task(client.delete("/adapters/news"))
    await asyncio.sleep(0.05)
    assert engine.adapters == {"news@1"}  # still there for the request at work
    engine.release()
    assert (await at_work).json()["model"] == "news"
    assert (await removed).status_code == 200
    assert engine.adapters == set()
    assert (await client.post("/rank", json=body)).json()["model"] == BASE


async def test_all_of_it_survives_a_restart(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, root: Path
) -> None:
    await load(client, "news-1", "v1")
    await load(client, "news-2", "v2")
    await client.put("/aliases/default", json={"weights": {"news-2": 1}})
    before = await predict(client)
    for folder in (settings.state / "adapters" / "news-1@1", root / "v1"):
        (folder / "adapter_config.json").write_text("{")
    async with restarted(settings) as again:
        assert await names(again) == [BASE, "news-2", "default"]
        assert await predict(again) | {"id": 0, "latency_ms": 0} == before | {
            "id": 0,
            "latency_ms": 0,
        }
        listed = (await again.get("/adapters")).json()["adapters"]
        assert [(a["name"], a["status"]) for a in listed] == [
            ("news-2", "serving"),
            ("news-1", "failed"),
        ]
        assert "have changed since version 1 was loaded" in listed[1]["error"]
        assert (await again.delete("/adapters/news-1")).status_code == 200
        assert [folder.name for folder in (settings.state / "adapters").iterdir()] == ["news-2@1"]
    assert set(desired_in(settings.store_url).adapters) == {"news-2"}


def restarted(settings: Settings) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return started(create_app(settings, FakeEngine()))


async def test_a_registry_that_is_not_ours_stops_the_start(settings: Settings) -> None:
    settings.state.mkdir()
    (settings.state / "registry.json").write_text('{"adapters": 3}')
    with pytest.raises(StartupError, match=r"registry\.json can't be read"):
        async with restarted(settings):
            pass


async def test_a_damaged_copy_is_made_again(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings
) -> None:
    await load(client, "news", "v1")
    (settings.state / "adapters" / "news@1" / "adapter_config.json").write_text("{")
    async with restarted(settings) as again:
        assert await names(again) == [BASE, "news"]


async def test_an_unwritable_state_changes_nothing(
    client: httpx.AsyncClient, settings: Settings, engine: FakeEngine
) -> None:
    (settings.state / "adapters").write_text("in the way of the copies")
    assert error(await load(client, "news", "v1"))[:2] == (422, "adapter_rejected")
    assert engine.adapters == set()
    assert await names(client) == [BASE]
