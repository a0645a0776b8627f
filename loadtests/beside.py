"""Measure what a large request costs everyone else, and what it costs itself to let them in.

  python -m loadtests.beside --mind "$MIND/train" --json runs/beside.json
  python -m loadtests.beside --large "rank 1000" --small "rank 20" --readers 4 --shortlist 20

The large requests are a /rank of 400 and a chat whose prompt has as many titles. The small ones are
/predict and /rank of 10, sent one after the other, with random pauses, by readers who never return.
Two services run, of which one at a time is asked: ours as it is, and one that cuts nothing, for the
large requests' own times. With --shortlist there is only ours, whose ranker knows all titles, and
the language model judges so many candidates; otherwise it judges all of them. All phases come in
each round, so a machine whose speed drifts affects them alike. A refusal ends the command, and
nothing is answered without the language model. What is measured is written after each round.
"""

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import aiohttp

from loadtests.limit import requests
from loadtests.limit.closed_load import TIMEOUT, Request, call
from loadtests.limit.processes import EVERY_STORY, usual_service
from loadtests.limit.shortlists import MOST_STORIES, get_known
from loadtests.limit.workload import Question, Workload
from loadtests.options import names
from loadtests.services import LoadTestError, clean_up_on_sigterm
from loadtests.traffic import EXAMPLE_MIND
from training.folders import write_whole
from training.provenance import commit

LARGE = {"rank 400": 400, "rank 1000": 1000, "long chat": 400}
SMALL = {"predict": 1, "rank 10": 10, "rank 20": 20}
"""How many titles each kind of request has."""
SETTINGS = {"FRONTPAGE_LIMITS__TIMEOUT_MS": "600000", **EVERY_STORY}
WHOLE = {"FRONTPAGE_LIMITS__SLICE_TOKENS": "1000000000"}
ALONE, BESIDE, UNCUT = "alone", "beside", "uncut"
Times = dict[str, list[float]]
"""Seconds of each answer, by what was asked and when, such as "predict beside rank 400"."""


def long_chats(questions: Iterator[Question]) -> Iterator[Request]:
    for question in questions:
        text = "\n".join(story.title for story in question.targets)
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 10}
        yield Request("/v1/chat/completions", requests.encode(body), 1, requests.read_openai)


@dataclass(frozen=True)
class Plan:
    """large, small: kinds of requests. readers: how many ask the small ones at once. repeat: how
    often a large one is asked in each phase. rounds: after one that warms up. pause: seconds that a
    reader waits at most after an answer; half of it on average."""

    large: Sequence[str]
    small: Sequence[str]
    readers: int = 1
    repeat: int = 1
    rounds: int = 5
    pause: float = 2.0


class Asking:
    """Sends requests of each kind to a service, no two of them the same."""

    def __init__(self, session: aiohttp.ClientSession, workload: Workload, plan: Plan) -> None:
        self.session = session
        self.plan = plan
        self.times: Times = defaultdict(list)
        self.pauses = Random("pauses")
        makers = {"predict": requests.predict, "long chat": long_chats}
        self.requests = {
            kind: makers.get(kind, requests.rank)(workload.questions(f"beside {kind}", titles))
            for kind, titles in (LARGE | SMALL).items()
        }

    async def ask(self, url: str, kind: str, when: str) -> float:
        found = await call(self.session, url, next(self.requests[kind]))
        took = found.done - found.sent
        self.times[f"{kind} {when}"].append(took)
        return took

    async def ask_often(self, url: str, kind: str, when: str) -> float:
        return sum([await self.ask(url, kind, when) for _ in range(self.plan.repeat)])

    async def ask_until(self, end: asyncio.Future[Any], url: str, kind: str, when: str) -> None:
        """Let all readers ask."""

        async def read() -> None:
            while not end.done():
                await self.ask(url, kind, when)
                await asyncio.sleep(self.pauses.uniform(0, self.plan.pause))

        await asyncio.gather(*(read() for _ in range(self.plan.readers)))

    async def round(self, ours: str, uncut: str | None) -> None:
        for large in self.plan.large:
            if uncut:
                await self.ask_often(uncut, large, UNCUT)
            took = await self.ask_often(ours, large, ALONE)
            for small in self.plan.small:
                pause = asyncio.ensure_future(asyncio.sleep(took))
                await self.ask_until(pause, ours, small, f"{ALONE}, before {large}")
                at_work = asyncio.ensure_future(self.ask_often(ours, large, f"{BESIDE} {small}"))
                await self.ask_until(at_work, ours, small, f"{BESIDE} {large}")
                await at_work


async def measure(
    ours: str, uncut: str | None, workload: Workload, plan: Plan, keep: Callable[[Times], None]
) -> None:
    """Call `keep` with all times after each round. uncut: the other service, if there is one.
    Raises LoadTestError if a request fails."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        asking = Asking(session, workload, plan)
        for number in range(plan.rounds + 1):
            if number == 1:
                asking.times.clear()  # the first round warms up
            await asking.round(ours, uncut)
            print(f"round {number} of {plan.rounds}", file=sys.stderr, flush=True)
            if number:
                keep(asking.times)


def as_table(times: Mapping[str, Sequence[float]], plan: Plan) -> str:
    """Markdown: a row for each small request beside each large one, and those of each large one."""
    head = "| measured | compared with | p50 s | p95 s | x p50 | x p95 | answers |"
    lines = [head, "|---" * 7 + "|"]
    both = [(large, small) for large in plan.large for small in plan.small]
    pairs = [
        (f"{small} {BESIDE} {large}", f"{small} {ALONE}, before {large}") for large, small in both
    ]
    pairs += [
        (f"{large} {ALONE}", f"{large} {UNCUT if times.get(f'{large} {UNCUT}') else ALONE}")
        for large in plan.large
    ]
    pairs += [(f"{large} {BESIDE} {small}", f"{large} {ALONE}") for large, small in both]
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


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    times: Times = {}

    def keep(found: Times) -> None:
        times.update(found)
        record = {"commit": options.commit or commit(), "seconds": times}
        write_whole(options.json, json.dumps(record, indent=1) + "\n")

    plan = Plan(*(getattr(options, field.name) for field in fields(Plan)))
    is_short = options.shortlist is not None
    settings = SETTINGS | ({"FRONTPAGE_SHORTLIST": str(options.shortlist)} if is_short else {})
    try:
        with ExitStack() as running:

            def serve(name: str, more: Mapping[str, str]) -> str:
                service = usual_service(options.model, options.out / name, {**settings, **more})
                return running.enter_context(service)

            ours, uncut = serve("ours", {}), None if is_short else serve(UNCUT, WHOLE)
            most = MOST_STORIES if is_short else None
            workload = Workload(options.model, options.mind, options.history, most)
            if is_short:
                get_known(ours, workload)
            asyncio.run(measure(ours, uncut, workload, plan, keep))
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if times:
            print(as_table(times, plan))
    return 0


def kinds(known: Mapping[str, int]) -> str:
    return f"comma-separated: {', '.join(known)} (default: %(default)s)"


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
    add("--large", type=names(LARGE), default=["rank 400", "long chat"], help=kinds(LARGE))
    add("--small", type=names(SMALL), default=["predict", "rank 10"], help=kinds(SMALL))
    add("--readers", type=int, default=1, help=f"of small requests, at once {default}")
    add("--pause", type=float, default=2.0, help=f"most seconds between a reader's two {default}")
    add("--repeat", type=int, default=1, help=f"large requests a phase {default}")
    add("--shortlist", type=int, help="candidates the language model judges (default: all)")
    add("--rounds", type=int, default=5, help=f"after one that warms up {default}")
    add("--json", type=Path, metavar="FILE", default=Path("runs/beside.json"), help=default)
    add("--out", type=Path, default=Path("runs/beside"), help=f"folder for logs {default}")
    add("--commit", help="commit of the code, if it cannot be read from git")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
