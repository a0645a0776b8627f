"""What one reader's large request costs everyone else, on the default model and the real engine."""

import asyncio
import time
from itertools import count
from statistics import median
from typing import Any

import httpx
import pytest

from tests.integration.conftest import titles
from tests.support.servers import Service

NEW = count()
TIMES_THE_USUAL = 2.5
"""Twice is the aim. A run of a few requests on a machine with other work needs some room."""


def reader() -> dict[str, Any]:
    """A reader whom the cache does not hold yet."""
    number = next(NEW)
    return {"history": [f"{title} {number}" for title in titles(100)[number % 50 :][:20]]}


def small(kind: str) -> tuple[str, dict[str, Any]]:
    if kind == "predict":
        return "/predict", {**reader(), "target": titles(1)[0]}
    return "/rank", {**reader(), "candidates": titles(10)}


def large(kind: str) -> tuple[str, dict[str, Any]]:
    stories = [f"{title} {number}" for number in range(4) for title in titles(100)]
    if kind == "rank":
        return "/rank", {**reader(), "candidates": stories}
    pairs = [{**known, "target": title} for known in (reader(), reader()) for title in stories[:20]]
    return "/predict/batch", {"pairs": pairs}


async def seconds(client: httpx.AsyncClient, asked: tuple[str, dict[str, Any]]) -> float:
    path, body = asked
    started = time.perf_counter()
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - started


@pytest.mark.parametrize("beside", ["predict", "rank"])
@pytest.mark.parametrize("kind", ["rank", "batch"])
async def test_small_requests_stay_fast_beside_a_large_one(
    default_service: Service, kind: str, beside: str
) -> None:
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        usual = [await seconds(client, small(beside)) for _ in range(6)]
        at_work = asyncio.create_task(seconds(client, large(kind)))
        await asyncio.sleep(0.5)
        while_busy: list[float] = []
        while not at_work.done() and len(while_busy) < 12:
            while_busy.append(await seconds(client, small(beside)))
        await at_work
        usual += [await seconds(client, small(beside)) for _ in range(6)]
    assert len(while_busy) >= 3
    assert median(while_busy) < TIMES_THE_USUAL * median(usual), (usual, while_busy)


async def test_a_sliced_request_answers_what_small_ones_do(default_service: Service) -> None:
    path, body = large("rank")
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        answer = (await client.post(path, json=body)).json()
        assert [one["rank"] for one in answer["results"]] == list(range(1, 401))
        assert answer["usage"]["cached_tokens"] > 0.8 * 399 / 400 * answer["usage"]["prompt_tokens"]
        for result in answer["results"][::80]:
            story = {**body, "target": body["candidates"][result["index"]]}
            del story["candidates"]
            alone = (await client.post("/predict", json=story)).json()
            assert result["probability"] == pytest.approx(alone["probability"], rel=0.05)
