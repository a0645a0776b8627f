"""A closed load on replicas, in which requests may fail: what became of each, and was it right."""

import asyncio
import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from loadtests.traffic import Request

HANGS_S = 60.0
"""Without an answer for so long, a request hangs: the service's own deadline is 30 s."""
TOLERANCE = 1e-4
"""Of a probability: batches of other sizes round otherwise."""
SESSION = "X-Session-Id"


@dataclass(frozen=True, slots=True)
class ReaderAsk:
    """reader: says who asks, the same for all requests of a reader."""

    path: str
    body: bytes
    reader: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """number: of the request. status: 0 without an answer. code: of an error in our shape."""

    number: int
    status: int
    sent: float
    done: float
    model: str = ""
    probabilities: tuple[float, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    code: str = ""
    detail: str = ""


Truth = Mapping[tuple[int, str], tuple[float, ...]]
"""Probabilities of a quiet run, by a request's number and the model that answered."""


def ask_of(request: Request) -> ReaderAsk:
    fields = json.loads(request.body)
    reader = {name: fields[name] for name in ("history", "liked", "disliked")}
    digest = hashlib.blake2b(json.dumps(reader).encode(), digest_size=8).hexdigest()
    return ReaderAsk(request.path, request.body, digest)


async def send(
    url: str,
    key: str,
    asks: Sequence[ReaderAsk],
    at_once: int,
    stop: Callable[[int], bool],
    affine: bool = True,
) -> list[Outcome]:
    """Sends the asks in order, again from the first after the last, until stop(number sent)."""
    outcomes: list[Outcome] = []
    sent = 0
    timeout = aiohttp.ClientTimeout(total=HANGS_S)
    authorization = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        while not stop(sent):
            number, sent = sent % len(asks), sent + 1
            outcomes.append(await send_one(session, url, number, asks[number], affine))

    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=authorization
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(at_once):
            group.create_task(work(session))
    return outcomes


async def send_one(
    session: aiohttp.ClientSession, url: str, number: int, ask: ReaderAsk, affine: bool
) -> Outcome:
    headers = {SESSION: ask.reader} if affine else {}
    sent = time.perf_counter()
    try:
        async with session.post(url + ask.path, data=ask.body, headers=headers) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = type(error).__name__
        return Outcome(number, 0, sent, time.perf_counter(), detail=detail)
    done = time.perf_counter()
    try:
        found = json.loads(content)
        if response.status != 200:
            return Outcome(number, response.status, sent, done, code=found["error"]["code"])
        stories = sorted(found.get("results", [found]), key=lambda one: one.get("index", 0))
        return Outcome(
            number,
            200,
            sent,
            done,
            found["model"],
            tuple(one["probability"] for one in stories),
            found["usage"]["prompt_tokens"],
            found["usage"]["cached_tokens"],
        )
    except (ValueError, KeyError, TypeError):
        return Outcome(number, response.status, sent, done, detail=content[:200].decode("latin-1"))


def truth_of(outcomes: Sequence[Outcome]) -> dict[tuple[int, str], tuple[float, ...]]:
    return {(one.number, one.model): one.probabilities for one in outcomes if one.status == 200}


def judge(outcome: Outcome, truth: Truth) -> str:
    """right, wrong, unknown (an answer that the quiet run has not), refused (a 503 in our shape),
    hangs, or failed."""
    if outcome.status == 200 and outcome.probabilities:
        known = truth.get((outcome.number, outcome.model))
        if known is None:
            return "unknown"
        return "right" if distance(outcome.probabilities, known) <= TOLERANCE else "wrong"
    if outcome.status == 503 and outcome.code:
        return "refused"
    return "hangs" if outcome.done - outcome.sent >= HANGS_S else "failed"


def distance(found: Sequence[float], known: Sequence[float]) -> float:
    if len(found) != len(known):
        return math.inf
    return max(abs(one - other) for one, other in zip(found, known, strict=True))


def tally(outcomes: Sequence[Outcome], truth: Truth) -> dict[str, int]:
    names = ("right", "refused", "wrong", "unknown", "hangs", "failed")
    counted = Counter(judge(one, truth) for one in outcomes)
    return {name: counted[name] for name in names}
