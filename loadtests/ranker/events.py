"""Measure what a site's events cost those who ask for rankings meanwhile.

  python -m loadtests.ranker.events --mind "$MIND/train" --json runs/ranker-events.json

Readers that never return are ranked for, one after the other. In every second block of rankings
another process sends events, each with five stories of the site. The service needs a core for them
that the engine does not: on two cores, of which the engine uses both, this measures the engine's
loss instead.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from random import Random
from typing import Any

import httpx

from loadtests.ranker.cost import add_arguments, get_known, serving_site
from loadtests.services import LoadTestError, clean_up_on_sigterm
from loadtests.store.measurements import NewsSite, p95, post
from training.folders import write_whole
from training.provenance import commit

SHOWN = 5
CLICK_SHARE = 0.05
BATCH = 100
"""How many events a request carries."""
AT_ONCE = 8
"""How many such requests are under way at most."""
STORED = 100_000
"""How many stories the site has; those beyond MIND's are invented."""
SETTLE_S = 2.0
LEAST_SHARE = 0.97
"""Of the wanted rate of events, what must have been taken for the measurement to count."""


@dataclass
class Times:
    """Seconds of rankings, and how many events a second were taken meanwhile."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


async def measure(url: str, site: NewsSite, options: argparse.Namespace) -> Times:
    """Raises LoadTestError."""
    times, numbers = Times(), itertools.count()
    ids = [story["id"] for story in site.stories]
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await get_known(client, site)
        ids += await invent(client, STORED - len(ids))
        await rank(client, site, numbers, options.ranks)  # warms up
        for number in range(options.rounds):
            times.alone += await rank(client, site, numbers, options.ranks)
            with sending(url, ids, options.rate, number) as taken:
                await asyncio.sleep(SETTLE_S)
                before, started = taken.value, time.monotonic()
                times.beside += await rank(client, site, numbers, options.ranks)
                times.rates.append((taken.value - before) / (time.monotonic() - started))
            await asyncio.sleep(SETTLE_S)
    if min(times.rates) < LEAST_SHARE * options.rate:
        raise LoadTestError(
            f"only {min(times.rates):.0f} of {options.rate} events a second came in"
        )
    return times


async def invent(client: httpx.AsyncClient, count: int) -> list[str]:
    """Store so many stories whose titles nobody asks for; returns their ids."""
    ids = [f"invented {number}" for number in range(count)]
    for start in range(0, count, 1000):
        part = [{"id": one, "title": f"Story {one}"} for one in ids[start : start + 1000]]
        await post(client, "/stories", {"stories": part})
    return ids


async def rank(
    client: httpx.AsyncClient, site: NewsSite, numbers: Iterator[int], count: int
) -> list[float]:
    """Seconds of so many rankings."""
    found = []
    for _ in range(count):
        history, candidates = site.visit(next(numbers))
        body = {"history": history, "candidates": candidates, "shortlist": "all"}
        started = time.perf_counter()
        answer = await post(client, "/rank", body)
        found.append(time.perf_counter() - started)
        if not answer["ranker"]:
            raise LoadTestError("the model has no ranker")
    return found


@contextmanager
def sending(url: str, ids: list[str], rate: int, seed: int) -> Iterator["Synchronized[int]"]:
    """Send events from another process; yields how many the service has taken so far."""
    context = get_context("spawn")
    taken, end = context.Value("q", 0), context.Event()
    process = context.Process(target=send, args=(url, ids, rate, seed, taken, end))
    process.start()
    try:
        yield taken
    finally:
        end.set()
        process.join()


def send(
    url: str, ids: list[str], rate: int, seed: int, taken: "Synchronized[int]", end: Event
) -> None:
    """The other process."""
    asyncio.run(send_all(url, ids, rate, seed, taken, end))


async def send_all(
    url: str, ids: list[str], rate: int, seed: int, taken: "Synchronized[int]", end: Event
) -> None:
    random, due = Random(seed), time.monotonic()
    limit = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        while not end.is_set():
            events = [event(random, ids) for _ in range(BATCH)]
            await limit.acquire()
            tasks.create_task(send_some(client, events, limit, taken))
            due += BATCH / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def send_some(
    client: httpx.AsyncClient,
    events: list[dict[str, Any]],
    limit: asyncio.Semaphore,
    taken: "Synchronized[int]",
) -> None:
    try:
        await post(client, "/events", {"events": events})
    finally:
        limit.release()
    with taken.get_lock():
        taken.value += len(events)


def event(random: Random, ids: list[str]) -> dict[str, Any]:
    reader = f"reader {random.randrange(1_000_000)}"
    if random.random() < CLICK_SHARE:
        return {"type": "click", "reader_id": reader, "story": random.choice(ids)}
    return {"type": "impression", "reader_id": reader, "stories": random.sample(ids, SHOWN)}


def as_table(times: Times) -> str:
    lines = ["| | p50 ms | p95 ms | rankings | events/s |", "|---|---|---|---|---|"]
    rows = {"alone": (times.alone, 0.0), "beside events": (times.beside, min(times.rates))}
    for name, (found, rate) in rows.items():
        middle, slow = statistics.median(found) * 1e3, p95(found) * 1e3
        lines.append(f"| {name} | {middle:.1f} | {slow:.1f} | {len(found)} | {rate:.0f} |")
    ratios = (
        statistics.median(times.beside) / statistics.median(times.alone),
        p95(times.beside) / p95(times.alone),
    )
    return "\n".join([*lines, "| ratio | {:.3f} | {:.3f} | | |".format(*ratios)])


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    try:
        with serving_site(options) as (url, site):
            times = asyncio.run(measure(url, site, options))
    except (LoadTestError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    record = {"commit": options.commit or commit(), **vars(times)}
    write_whole(options.json, json.dumps(record, indent=1) + "\n")
    print(as_table(times))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.ranker.events",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rate", type=int, default=5000, help="events a second (default: %(default)s)")
    add("--rounds", type=int, default=5, help="of two blocks each (default: %(default)s)")
    add("--ranks", type=int, default=40, help="rankings of a block (default: %(default)s)")
    add_arguments(parser, "ranker-events")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
