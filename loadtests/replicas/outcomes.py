"""Sends a closed load in which requests may fail, and tells right outcomes from wrong ones."""

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

HANG_AFTER_S = 60.0
"""A request without an answer for this long hangs. The service's own deadline is 30 s."""
PROBABILITY_TOLERANCE = 1e-4
"""Batch size changes rounding."""
SESSION_HEADER = "X-Session-Id"


@dataclass(frozen=True, slots=True)
class ReaderRequest:
    """A request and an ID of the reader it is for."""

    path: str
    body: bytes
    reader: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    number: index of the request. status: 0 if there was no response. sent, done: seconds by
    time.perf_counter(). code: of an error in the service's shape. detail: of any other error.
    """

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
"""Probabilities from a quiet run, by the request's number and the model that answered."""


def with_reader(request: Request) -> ReaderRequest:
    """Add the reader's ID, a hash of history and preferences."""
    fields = json.loads(request.body)
    reader = {name: fields[name] for name in ("history", "liked", "disliked")}
    digest = hashlib.blake2b(json.dumps(reader).encode(), digest_size=8).hexdigest()
    return ReaderRequest(request.path, request.body, digest)


async def send(
    url: str,
    key: str,
    requests: Sequence[ReaderRequest],
    at_once: int,
    stop: Callable[[int], bool],
    affine: bool = True,
) -> list[Outcome]:
    """Send the requests in order, over and over, until `stop` is true of the number sent.

    affine: whether to send a session header, so that each reader keeps to one replica.
    """
    outcomes: list[Outcome] = []
    sent = 0
    timeout = aiohttp.ClientTimeout(total=HANG_AFTER_S)
    authorization = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        while not stop(sent):
            number, sent = sent % len(requests), sent + 1
            outcomes.append(await send_one(session, url, number, requests[number], affine))

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
    session: aiohttp.ClientSession, url: str, number: int, request: ReaderRequest, affine: bool
) -> Outcome:
    headers = {SESSION_HEADER: request.reader} if affine else {}
    sent = time.perf_counter()
    try:
        async with session.post(url + request.path, data=request.body, headers=headers) as response:
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
    """The truth that a quiet run's answers establish."""
    return {(one.number, one.model): one.probabilities for one in outcomes if one.status == 200}


def classify(outcome: Outcome, truth: Truth) -> str:
    """One of right, wrong, unknown, refused, hangs and failed.

    An answer that the quiet run lacks is unknown. Refused means a 503 in the service's shape.
    """
    if outcome.status == 200 and outcome.probabilities:
        known = truth.get((outcome.number, outcome.model))
        if known is None:
            return "unknown"
        return (
            "right" if distance(outcome.probabilities, known) <= PROBABILITY_TOLERANCE else "wrong"
        )
    if outcome.status == 503 and outcome.code:
        return "refused"
    return "hangs" if outcome.done - outcome.sent >= HANG_AFTER_S else "failed"


def distance(found: Sequence[float], known: Sequence[float]) -> float:
    """The largest difference; infinite if the lengths differ."""
    if len(found) != len(known):
        return math.inf
    return max(abs(one - other) for one, other in zip(found, known, strict=True))


def tally(outcomes: Sequence[Outcome], truth: Truth) -> dict[str, int]:
    """How many outcomes are of each class."""
    names = ("right", "refused", "wrong", "unknown", "hangs", "failed")
    counted = Counter(classify(one, truth) for one in outcomes)
    return {name: counted[name] for name in names}
