"""A closed load over HTTP: a fixed number of requests in flight, each replaced when answered."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp

from loadtests.limit.speed import Call
from loadtests.services import LoadTestError

TIMEOUT = aiohttp.ClientTimeout(total=600)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send. read: extracts fields of Call from the JSON of the response."""

    path: str
    body: bytes
    stories: int
    read: Callable[[dict[str, Any]], dict[str, Any]]


async def send_closed(
    url: str, requests: Iterator[Request], at_once: int, seconds: float, min_calls: int = 1
) -> list[Call]:
    """Send requests for `seconds`, and at least `min_calls` of them; return the answered calls.

    Raises LoadTestError if a response is not a 200: figures that include failures would mislead.
    """
    calls: list[Call] = []
    sent, end = 0, perf_counter() + seconds

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        while perf_counter() < end or sent < min_calls:
            sent += 1
            calls.append(await call(session, url, next(requests)))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work(session))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    return calls


async def call(session: aiohttp.ClientSession, url: str, request: Request) -> Call:
    headers = {"Content-Type": "application/json"}
    sent = perf_counter()
    try:
        async with session.post(url + request.path, data=request.body, headers=headers) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoadTestError(f"{request.path}: {type(error).__name__}: {error}") from None
    done = perf_counter()
    if response.status != 200:
        text = content.decode(errors="replace")[:300]
        raise LoadTestError(f"{request.path} answers {response.status}: {text}")
    return Call(request.stories, sent, done, **request.read(json.loads(content)))
