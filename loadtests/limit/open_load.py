"""An open load over HTTP: requests are sent when they are due, whatever has been answered."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from time import perf_counter

import aiohttp

from loadtests.limit.closed_load import TIMEOUT, Request

NO_ANSWER = 0
DEGRADED = b'"degraded":true'


@dataclass(frozen=True, slots=True)
class Answer:
    """due, done: seconds from the beginning of the load. status: NO_ANSWER if there was none.
    degraded: the language model has no part in it."""

    due: float
    done: float
    status: int
    degraded: bool

    @property
    def took(self) -> float:
        """Seconds since the request was due: what its sender waited."""
        return self.done - self.due


async def send_open(
    url: str, requests: Iterator[Request], rate: float, seconds: float
) -> list[Answer]:
    """Send `rate` requests a second for `seconds`; return all answers, in the order of their ends.

    The times are a Poisson process with exactly as many requests as the rate says.
    """
    random, count = Random("arrivals"), round(rate * seconds)
    arrivals = sorted(random.uniform(0, seconds) for _ in range(count))
    prepared = list(islice(requests, count))
    answers: list[Answer] = []
    begun = perf_counter()

    async def send(session: aiohttp.ClientSession, request: Request, due: float) -> None:
        await asyncio.sleep(max(0.0, begun + due - perf_counter()))
        headers = {"Content-Type": "application/json"}
        status, content = NO_ANSWER, b""
        try:
            target = url + request.path
            async with session.post(target, data=request.body, headers=headers) as response:
                content = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = NO_ANSWER
        answers.append(Answer(due, perf_counter() - begun, status, DEGRADED in content))

    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session,
        asyncio.TaskGroup() as group,
    ):
        for request, due in zip(prepared, arrivals, strict=True):
            group.create_task(send(session, request, due))
    return answers
