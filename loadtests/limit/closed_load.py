"""A closed load over HTTP: so many calls under way, the next one when one is answered."""

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
class Ask:
    """A call to make. read: from the answer's JSON to the fields of Call that it tells."""

    path: str
    body: bytes
    stories: int
    read: Callable[[dict[str, Any]], dict[str, Any]]


async def ask_closed(
    url: str, asks: Iterator[Ask], at_once: int, seconds: float, least: int = 1
) -> list[Call]:
    """Asks until `seconds` are over and `least` calls are sent, then waits for the last answers.

    Raises LoadTestError for an answer that is not a 200: figures with failed calls would mislead.
    """
    calls: list[Call] = []
    sent, end = 0, perf_counter() + seconds

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        while perf_counter() < end or sent < least:
            sent += 1
            calls.append(await call(session, url, next(asks)))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work(session))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    return calls


async def call(session: aiohttp.ClientSession, url: str, ask: Ask) -> Call:
    headers = {"Content-Type": "application/json"}
    sent = perf_counter()
    try:
        async with session.post(url + ask.path, data=ask.body, headers=headers) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoadTestError(f"{ask.path}: {type(error).__name__}: {error}") from None
    done = perf_counter()
    if response.status != 200:
        text = content.decode(errors="replace")[:300]
        raise LoadTestError(f"{ask.path} answers {response.status}: {text}")
    return Call(ask.stories, sent, done, **ask.read(json.loads(content)))
