"""Measure what the ranker adds to a /rank whose stories are known, in one service.

  python -m loadtests.ranker.cost --mind "$MIND/train" --json runs/ranker-cost.json

Stories are stored, embedded and have live figures first. Then readers that never return are ranked
for one after the other, every second one with `"ranker": false`, in a drawn order.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx

from loadtests.limit.processes import environment
from loadtests.options import json_object
from loadtests.services import ROOT, LoadTestError, clean_up_on_sigterm, free_port, serving
from loadtests.store.measurements import NewsSite, p95, post
from loadtests.traffic import EXAMPLE_MIND
from training.folders import write_whole
from training.provenance import commit

WARM_UP = 5
WAIT_S = 900.0
STORIES = 2000
"""How many stories take part: all have vectors and figures before anything is timed."""
COMPUTED = re.compile(r'^frontpage_titles_total\{source="computed"\} (\S+)$', re.M)
KINDS = {True: "with the ranker", False: "language model alone"}


async def measure(url: str, site: NewsSite, ranks: int) -> dict[str, list[float]]:
    """Seconds of each ranking, by kind. Raises LoadTestError."""
    times: dict[str, list[float]] = {name: [] for name in KINDS.values()}
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await get_known(client, site)
        before = await computed(client)
        order = [number % 2 == 0 for number in range(ranks * 2)]
        Random(0).shuffle(order)
        for number, ranker in enumerate([True, False] * WARM_UP + order):
            history, candidates = site.visit(number)
            body = {"history": history, "candidates": candidates, "ranker": ranker}
            body["shortlist"] = "all"  # both kinds judge the same stories
            started = time.perf_counter()
            answer = await post(client, "/rank", body)
            if answer["ranker"] != ranker:
                raise LoadTestError(f"{url}: the model has no ranker")
            if number >= 2 * WARM_UP:
                times[KINDS[ranker]].append(time.perf_counter() - started)
        if await computed(client) != before:
            raise LoadTestError("titles were embedded while rankings were timed")
    return times


async def get_known(client: httpx.AsyncClient, site: NewsSite) -> None:
    """Store the stories, show each to a few readers, and wait until all have their vectors."""
    await post(client, "/stories", {"stories": site.stories})
    ids = [story["id"] for story in site.stories]
    shown = [ids[start : start + 50] for start in range(0, len(ids), 50)]
    events: list[dict[str, Any]] = [
        {"type": "impression", "reader_id": f"reader {reader}", "stories": stories}
        for reader in range(5)
        for stories in shown
    ]
    await post(client, "/events", {"events": events})
    end = time.monotonic() + WAIT_S
    for part in shown:  # what is not embedded yet is computed for this request
        await post(client, "/rank", {"candidates": [{"id": one} for one in part]})
        if time.monotonic() > end:
            raise LoadTestError(f"the stories are not embedded after {WAIT_S:.0f} s")


async def computed(client: httpx.AsyncClient) -> float:
    """How many titles requests had to have embedded."""
    text = (await client.get("/metrics")).raise_for_status().text
    return sum(float(value) for value in COMPUTED.findall(text))


def as_table(times: dict[str, list[float]]) -> str:
    lines = ["| | p50 ms | p95 ms | rankings |", "|---|---|---|---|"]
    for name, found in times.items():
        middle, slow = statistics.median(found) * 1e3, p95(found) * 1e3
        lines.append(f"| {name} | {middle:.1f} | {slow:.1f} | {len(found)} |")
    ours, text = times.values()
    ratios = statistics.median(ours) / statistics.median(text), p95(ours) / p95(text)
    return "\n".join([*lines, "| ratio | {:.3f} | {:.3f} | |".format(*ratios)])


@contextmanager
def serving_site(options: argparse.Namespace) -> Iterator[tuple[str, NewsSite]]:
    """Run a service, and yield its URL and the site whose stories take part. options: of
    `add_arguments`. Raises LoadTestError."""
    site = NewsSite.read(options.mind, options.candidates)
    site.stories = site.stories[:STORIES]
    options.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        **environment(),
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(options.model.resolve()),
        "FRONTPAGE_STATE": str(options.out.resolve() / f"state-{port}"),
        "FRONTPAGE_LIMITS__TIMEOUT_MS": "600000",
        "FRONTPAGE_ENGINE": json.dumps(options.engine),
    }
    with serving(["app"], settings, port, "/ready", options.out / "log") as (url, _):
        yield url, site


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    try:
        with serving_site(options) as (url, site):
            times = asyncio.run(measure(url, site, options.ranks))
    except (LoadTestError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    record = {"commit": options.commit or commit(), "seconds": times}
    write_whole(options.json, json.dumps(record, indent=1) + "\n")
    print(as_table(times))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.ranker.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ranks", type=int, default=100, help="rankings of each kind (100)")
    add_arguments(parser, "ranker-cost")
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Those of the service and the record. name: of the record's file."""
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "models" / "news-smollm2")
    add("--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder for titles")
    add("--candidates", type=int, default=50)
    add("--engine", type=json_object, default={}, metavar="JSON", help="vLLM's options")
    add("--json", type=Path, default=Path(f"runs/{name}.json"))
    add("--out", type=Path, default=Path(f"runs/{name}"), help="for logs and state")
    add("--commit", help="commit of the code, if it cannot be read from git")


if __name__ == "__main__":
    sys.exit(main())
