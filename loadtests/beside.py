"""Measure what a large request costs everyone else, and what it costs itself to let them in.

  python -m loadtests.beside --mind "$MIND/train" --json runs/beside.json

The large requests are a /rank of 400 and a chat whose prompt has as many titles. The small ones are
/predict and /rank of 10, sent one after the other, with random pauses, by readers who never return.
Two services run, of which one at a time is asked: ours as it is, and one that cuts nothing, for the
large requests' own times. All phases come in each round, so a machine whose speed drifts affects
them alike. A refusal ends the command. What is measured is written after each round.
"""

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import aiohttp

from loadtests.limit import requests
from loadtests.limit.closed_load import TIMEOUT, Request, call
from loadtests.limit.processes import EVERY_STORY, environment
from loadtests.limit.workload import Question, Workload
from loadtests.services import LoadTestError, clean_up_on_sigterm, free_port, serving
from loadtests.traffic import EXAMPLE_MIND
from training.folders import write_whole
from training.provenance import commit

LARGE, TITLES = ("rank 400", "long chat"), 400
SMALL = {"predict": 1, "rank 10": 10}
WHOLE = {"FRONTPAGE_LIMITS__SLICE_TOKENS": "1000000000"}
MAX_PAUSE_S = 2.0
ALONE, BESIDE, UNCUT = "alone", "beside", "uncut"
Times = dict[str, list[float]]
"""Seconds of each answer, by what was asked and when, such as "predict beside rank 400"."""


def long_chats(questions: Iterator[Question]) -> Iterator[Request]:
    for question in questions:
        text = "\n".join(story.title for story in question.targets)
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 10}
        yield Request("/v1/chat/completions", requests.encode(body), 1, requests.read_openai)


class Asking:
    """Sends requests of each kind to a service, no two of them the same."""

    def __init__(self, session: aiohttp.ClientSession, workload: Workload) -> None:
        self.session = session
        self.times: Times = defaultdict(list)
        self.pauses = Random("pauses")
        asked = {
            "predict": requests.predict,
            "rank 10": requests.rank,
            "rank 400": requests.rank,
            "long chat": long_chats,
        }
        self.requests = {
            kind: make(workload.questions(f"beside {kind}", SMALL.get(kind, TITLES)))
            for kind, make in asked.items()
        }

    async def ask(self, url: str, kind: str, when: str) -> float:
        found = await call(self.session, url, next(self.requests[kind]))
        took = found.done - found.sent
        self.times[f"{kind} {when}"].append(took)
        return took

    async def ask_until(self, end: asyncio.Future[Any], url: str, kind: str, when: str) -> None:
        while not end.done():
            await self.ask(url, kind, when)
            await asyncio.sleep(self.pauses.uniform(0, MAX_PAUSE_S))

    async def round(self, ours: str, uncut: str) -> None:
        for large in LARGE:
            await self.ask(uncut, large, UNCUT)
            took = await self.ask(ours, large, ALONE)
            for small in SMALL:
                pause = asyncio.ensure_future(asyncio.sleep(took))
                await self.ask_until(pause, ours, small, f"{ALONE}, before {large}")
                at_work = asyncio.ensure_future(self.ask(ours, large, f"{BESIDE} {small}"))
                await self.ask_until(at_work, ours, small, f"{BESIDE} {large}")
                await at_work


async def measure(
    ours: str, uncut: str, workload: Workload, rounds: int, keep: Callable[[Times], None]
) -> None:
    """Call `keep` with all times after each round. Raises LoadTestError if a request fails."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        asking = Asking(session, workload)
        for number in range(rounds + 1):
            if number == 1:
                asking.times.clear()  # the first round warms up
            await asking.round(ours, uncut)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
            if number:
                keep(asking.times)


def as_table(times: Mapping[str, Sequence[float]]) -> str:
    """Markdown: a row for each small request beside each large one, and one for each large one."""
    head = "| measured | compared with | p50 s | p95 s | x p50 | x p95 | answers |"
    lines = [head, "|---" * 7 + "|"]
    pairs = [
        (f"{small} {BESIDE} {large}", f"{small} {ALONE}, before {large}")
        for large in LARGE
        for small in SMALL
    ]
    pairs += [(f"{large} {ALONE}", f"{large} {UNCUT}") for large in LARGE]
    pairs += [
        (f"{large} {BESIDE} {small}", f"{large} {ALONE}") for large in LARGE for small in SMALL
    ]
    for measured, compared in pairs:
        p50, p95 = middle_and_slow(times[measured])
        usual, slow = middle_and_slow(times[compared])
        ratios = f"{p50 / usual:.2f} | {p95 / slow:.2f}"
        cells = f"{measured} | {compared} | {p50:.2f} | {p95:.2f} | {ratios}"
        lines.append(f"| {cells} | {len(times[measured])} |")
    return "\n".join(lines)


def middle_and_slow(times: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    return median(times), quantiles(times, n=20, method="inclusive")[-1] if times[1:] else times[0]


@contextmanager
def our_service(model: Path, folder: Path, more: Mapping[str, str]) -> Iterator[str]:
    """Run our service with its own limits on what is pending; yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        **environment(),
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(model),
        "FRONTPAGE_STATE": str(folder / "state"),
        "FRONTPAGE_LIMITS__TIMEOUT_MS": "600000",
        **EVERY_STORY,
        **more,
    }
    with serving(["app"], settings, port, "/ready", folder / "log") as (url, _):
        yield url


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    times: Times = {}

    def keep(found: Times) -> None:
        times.update(found)
        record = {"commit": options.commit or commit(), "seconds": times}
        write_whole(options.json, json.dumps(record, indent=1) + "\n")

    try:
        with ExitStack() as running:
            urls = [
                running.enter_context(our_service(options.model, options.out / name, more))
                for name, more in (("ours", {}), (UNCUT, WHOLE))
            ]
            workload = Workload(options.model, options.mind, options.history)
            asyncio.run(measure(urls[0], urls[1], workload, options.rounds, keep))
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if times:
            print(as_table(times))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.beside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "(default: %(default)s)"
    add = parser.add_argument
    add("--model", type=Path, default=Path("models/news-smollm2"), help=f"model folder {default}")
    add("--history", type=int, default=20, help=f"titles per reader {default}")
    add("--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder to take titles from")
    add("--rounds", type=int, default=5, help=f"after one that warms up {default}")
    add("--json", type=Path, metavar="FILE", default=Path("runs/beside.json"), help=default)
    add("--out", type=Path, default=Path("runs/beside"), help=f"folder for logs {default}")
    add("--commit", help="commit of the code, if it cannot be read from git")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
