"""What one reader's large request costs everyone else, on the default model and the real engine."""

import asyncio
import re
import time
from itertools import count
from statistics import median
from typing import Any

import httpx
import pytest

from app.http.openai_body import ANSWER_TOKENS
from tests.integration.conftest import titles
from tests.support.servers import Service

NEW = count()
PATIENT = {"x-request-timeout-ms": "120000"}
MIN_TURNS = 5
"""Each large request is about ten slices or more, and about one small request comes between two of
them. How long one takes depends on what else the machine does."""


def reader() -> dict[str, Any]:
    """A reader whom the cache does not hold yet."""
    number = next(NEW)
    return {"history": [f"{title} {number}" for title in titles(100)[number % 50 :][:20]]}


ALL = {"degraded": "refuse"}
"""The language model answers, or nobody does."""


def small(kind: str) -> tuple[str, dict[str, Any]]:
    if kind == "predict":
        return "/predict", {**ALL, **reader(), "target": titles(1)[0]}
    return "/rank", {**ALL, **reader(), "candidates": titles(10)}


def large(kind: str) -> tuple[str, dict[str, Any]]:
    stories = [f"{title} {number}" for number in range(4) for title in titles(100)]
    if kind == "rank":
        return "/rank", {**ALL, **reader(), "candidates": stories[::2], "shortlist": "all"}
    if kind == "reader":  # of whom one prediction needs 6,000 tokens
        long_titles = [f"{next(NEW)} {' '.join(stories[part::10])}" for part in range(10)]
        return "/predict", {**ALL, "history": long_titles, "target": stories[0]}
    if kind == "chat":
        return "/v1/chat/completions", {**long_chat(), "max_tokens": 3}
    if kind == "answers":
        return "/v1/chat/completions", {**long_chat(), "max_tokens": 3, "n": 3}
    if kind == "completions":
        prompts = [f"{next(NEW)} {' '.join(stories[start::16])}" for start in range(16)]
        return "/v1/completions", {"prompt": prompts, "max_tokens": 1}
    pairs = [{**known, "target": title} for known in (reader(), reader()) for title in stories[::4]]
    return "/predict/batch", {**ALL, "pairs": pairs}


def long_chat() -> dict[str, Any]:
    """About 3,000 tokens that the cache does not hold yet."""
    words = " ".join(f"{title} {number}" for number in range(4) for title in titles(100))
    return {"messages": [{"role": "user", "content": f"{next(NEW)} {words}"}]}


async def seconds(client: httpx.AsyncClient, asked: tuple[str, dict[str, Any]]) -> float:
    path, body = asked
    started = time.perf_counter()
    answer = await client.post(path, json=body, headers=PATIENT)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - started


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        ("rank", "predict"),
        ("batch", "rank"),
        ("reader", "predict"),
        ("chat", "rank"),
        ("answers", "predict"),
        ("completions", "rank"),
    ],
)
async def test_small_requests_stay_fast_beside_a_large_one(
    default_service: Service, kind: str, beside: str
) -> None:
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        at_work = asyncio.create_task(seconds(client, large(kind)))
        while_busy: list[float] = []
        while not at_work.done():
            while_busy.append(await seconds(client, small(beside)))
        took = await at_work
    assert len(while_busy) > MIN_TURNS, (took, while_busy)
    assert median(while_busy) < took / MIN_TURNS, (took, while_busy)


async def test_a_sliced_request_answers_what_small_ones_do(default_service: Service) -> None:
    path, body = large("rank")
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        answer = (await client.post(path, json=body, headers=PATIENT)).json()
        assert [one["rank"] for one in answer["results"]] == list(range(1, 201))
        assert answer["usage"]["cached_tokens"] > 0.8 * 199 / 200 * answer["usage"]["prompt_tokens"]
        for result in answer["results"][::40]:
            story = {**body, "target": body["candidates"][result["index"]]}
            del story["candidates"], story["shortlist"]
            alone = (await client.post("/predict", json=story)).json()
            assert result["probability"] == pytest.approx(alone["probability"], rel=0.05)


async def pending_tokens(client: httpx.AsyncClient) -> float:
    found = re.search(r"^frontpage_pending_tokens (\S+)", (await client.get("/metrics")).text, re.M)
    assert found
    return float(found[1])


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 2}], ids=str)
async def test_a_prompt_no_longer_counts_once_its_answer_begins(
    default_service: Service, fields: dict[str, Any]
) -> None:
    """An answer of 1,500 tokens takes longer than to ask for the figures."""
    answer = {"max_tokens": 1500, "ignore_eos": True, **fields}
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        body = {**long_chat(), **answer}
        asking = asyncio.create_task(
            client.post("/v1/chat/completions", json=body, headers=PATIENT)
        )
        counts = [await pending_tokens(client)]
        while counts[-1] > ANSWER_TOKENS * fields.get("n", 1) or max(counts) < 2000:
            assert not asking.done(), counts
            counts.append(await pending_tokens(client))
        assert counts[-1] == ANSWER_TOKENS * fields.get("n", 1)
        asking.cancel()


async def test_what_a_prompts_own_parts_left_in_the_cache_is_not_told_as_cached(
    default_service: Service,
) -> None:
    async with httpx.AsyncClient(base_url=default_service.url, timeout=120) as client:
        body = {**long_chat(), "max_tokens": 1}
        for share in (0, 1):  # the second time it was there before
            answer = await client.post("/v1/chat/completions", json=body, headers=PATIENT)
            usage = answer.json()["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            assert cached / usage["prompt_tokens"] == pytest.approx(share, abs=0.05)
