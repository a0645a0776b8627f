"""The measurements of `loadtests.store`."""

import asyncio
import statistics
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from loadtests.services import LoadTestError

HISTORY = 20
BATCH = 1000
SENDERS = 4
"""How many batches of events are under way at once."""
WARM_UP = 5
"""How many rankings come before those that are timed."""
WAIT_S = 30.0
POLL_S = 0.02

Json = dict[str, Any]


@dataclass
class Figures:
    """What was measured, by name: each name says its unit."""

    values: dict[str, float] = field(default_factory=dict)


@dataclass
class NewsSite:
    """Stories, and rankings of some of them for readers that never come twice."""

    stories: list[Json]
    candidates: int
    random: Random = field(default_factory=lambda: Random(0))

    @classmethod
    def read(cls, mind: Path, candidates: int) -> "NewsSite":
        """Raises LoadTestError if the folder has too few stories."""
        try:
            lines = (mind / "news.tsv").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise LoadTestError(f"{error.filename}: {error.strerror}") from None
        fields = [line.split("\t") for line in lines]
        stories = [{"id": row[0], "category": row[1], "title": row[3]} for row in fields]
        if len(stories) < HISTORY + 2:
            raise LoadTestError(f"{mind}/news.tsv has {len(stories)} stories: too few")
        return cls(stories, min(candidates, len(stories)))

    def visit(self, number: int) -> tuple[list[Json], list[Json]]:
        """The history and the candidates of reader `number`."""
        random = Random(number)
        return (
            random.sample(self.stories, HISTORY),
            random.sample(self.stories, self.candidates),
        )


async def post(client: httpx.AsyncClient, url: str, body: Json) -> Json:
    """Raises LoadTestError for an answer that is no success."""
    method = "PUT" if url.endswith("/stories") else "POST"
    response = await client.request(method, url, json=body)
    if not response.is_success:
        raise LoadTestError(f"{url}: {response.status_code} {response.text[:200]}")
    found: Json = response.json()
    return found


def clicks(reader: str, stories: Sequence[Json]) -> list[Json]:
    return [
        {"type": "click", "id": uuid.uuid4().hex, "reader_id": reader, "story": story["id"]}
        for story in stories
    ]


async def time_ranks(site: NewsSite, url: str, by_text: bool, first: int, last: int) -> list[float]:
    """Seconds of one /rank after the other, of readers number `first` to `last`.

    by_text: the requests carry all text; otherwise the service knows readers and stories by ids.
    """
    times = []
    async with httpx.AsyncClient(timeout=600) as client:
        await post(client, f"{url}/stories", {"stories": site.stories})
        for number in range(first - WARM_UP, last):
            history, candidates = site.visit(number)
            reader = f"reader {number}"
            body: Json = {"history": history, "candidates": candidates}
            if not by_text:
                await post(client, f"{url}/events", {"events": clicks(reader, history)})
                known = [{"id": story["id"]} for story in candidates]
                body = {"reader_id": reader, "candidates": known}
            started = time.perf_counter()
            answer = await post(client, f"{url}/rank", body)
            took = time.perf_counter() - started
            if answer["results"][0]["history_used"] != HISTORY:
                raise LoadTestError(f"{url} used {answer['results'][0]['history_used']} stories")
            if number >= first:
                times.append(took)
    return times


def compare_ranks(
    site: NewsSite, times: Mapping[str, list[float]], base: str, figures: Figures
) -> None:
    """times: of each kind of service. base: the kind that the others are compared with."""
    for name, found in times.items():
        for label, of in (("p50", statistics.median), ("p95", p95)):
            what = f"/rank of {site.candidates}, {name}, {label}"
            figures.values[f"{what}, ms"] = of(found) * 1e3
            figures.values[f"{what}, of {base}"] = of(found) / of(times[base])


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def measure_events(
    site: NewsSite, name: str, url: str, seconds: float, figures: Figures
) -> None:
    """Batches of half impressions and half clicks, SENDERS at a time."""
    sent = 0
    end = time.perf_counter() + seconds

    async def send(client: httpx.AsyncClient) -> None:
        nonlocal sent
        while time.perf_counter() < end:
            found = await post(client, f"{url}/events", {"events": events(site)})
            if found["accepted"] != BATCH:
                raise LoadTestError(f"{url}/events accepted {found['accepted']} of {BATCH}")
            sent += BATCH

    started = time.perf_counter()
    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(send(client) for _ in range(SENDERS)))
    figures.values[f"events/s, {name}, batches of {BATCH}"] = sent / (time.perf_counter() - started)


def events(site: NewsSite) -> list[Json]:
    found: list[Json] = []
    for _ in range(BATCH // 2):
        shown = [story["id"] for story in site.random.choices(site.stories, k=20)]
        reader, name = f"r{site.random.randrange(100_000)}", uuid.uuid4().hex
        found.append({"type": "impression", "id": name, "reader_id": reader, "stories": shown})
        click = {"type": "click", "id": f"c{name}", "reader_id": reader, "impression_id": name}
        found.append({**click, "story": shown[3]})
    return found


async def measure_visibility(
    site: NewsSite, here: str, there: str, clicks_sent: int, figures: Figures
) -> None:
    """Seconds from the acknowledgement of a click at one instance until a prediction of another
    uses it."""
    waits = []
    async with httpx.AsyncClient(timeout=60) as client:
        for number in range(clicks_sent):
            reader = f"seen {number % 10}"  # readers whom the other instance has read before
            target = {"reader_id": reader, "target": {"id": site.stories[-1]["id"]}}
            before = (await post(client, f"{there}/predict", target))["history_used"]
            told = clicks(reader, [site.stories[number // 10]])
            await post(client, f"{here}/events", {"events": told})
            started = time.perf_counter()
            while (await post(client, f"{there}/predict", target))["history_used"] <= before:
                if time.perf_counter() - started > WAIT_S:
                    raise LoadTestError(f"a click is not seen after {WAIT_S:.0f} s")
                await asyncio.sleep(POLL_S)
            waits.append(time.perf_counter() - started)
    figures.values["a click seen elsewhere, p50, s"] = statistics.median(waits)
    figures.values["a click seen elsewhere, p99, s"] = statistics.quantiles(waits, n=100)[-1]
