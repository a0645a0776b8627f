"""Rankings of which the language model judges all stories or a shortlist, measured in turns."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx
import psutil

from loadtests.limit import requests
from loadtests.limit.closed_load import Request, send_closed
from loadtests.limit.machine import Setup
from loadtests.limit.peers import MIN_WARM_UP_S, cpu_seconds
from loadtests.limit.speed import ALL, HTTP, Call, Row, duration, measure, shortlist_shape
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError

SIZES = (50, 300, 1000)
IMPRESSIONS = "impressions"
"""Rankings as long as MIND's, see workload.IMPRESSION_LENGTHS."""
MEAN_IMPRESSION = 37
ROUNDS = 3
MOST_STORIES = 2000
"""How many different stories are ranked, because each is embedded first."""
AT_ONCE = 1000
"""How many titles one request makes known."""


@dataclass(frozen=True)
class Plan:
    """shortlists: how many candidates the language model judges, each compared with all. visits:
    how often each reader of IMPRESSIONS comes; the readers of other rankings never return."""

    shortlists: Sequence[int]
    visits: int = 1


@dataclass
class Kind:
    """One kind of ranking, and what was measured so far."""

    shape: str
    at_once: int
    warm_up: Iterator[Request]
    counted: Iterator[Request]
    calls: list[Call] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def measure_shortlists(
    url: str, pid: int, setup: Setup, workload: Workload, plan: Plan
) -> Iterator[Row]:
    """A row for each length of rankings, with all stories judged and with each shortlist, each over
    ROUNDS turns. As many stories are at the language model at once with each.

    pid: the service's process. Raises LoadTestError if the service has no ranker.
    """
    get_known(url, workload)
    for size in (*SIZES, IMPRESSIONS):
        make = partial(make_kind, size, setup=setup, workload=workload, visits=plan.visits)
        kinds = [make(ALL), *map(make, plan.shortlists)]
        try:
            for _ in range(ROUNDS):
                for kind in kinds:
                    take_turn(kind, url, psutil.Process(pid), setup.seconds / ROUNDS)
        except (LoadTestError, LookupError, ValueError, psutil.Error) as error:
            yield Row(HTTP, str(size), setup.layout, error=str(error) or type(error).__name__)
            continue
        for kind in kinds:
            figures = measure(kind.calls, kind.cpu_seconds, kind.seconds)
            yield Row(HTTP, kind.shape, setup.layout, kind.at_once, figures)


def make_kind(
    size: int | str, shortlist: int | str, setup: Setup, workload: Workload, visits: int
) -> Kind:
    """size: how many candidates, or IMPRESSIONS."""
    count = size if isinstance(size, int) else MEAN_IMPRESSION
    shape = f"rank {size}" if isinstance(size, int) else IMPRESSIONS
    judged = min(shortlist, count) if isinstance(shortlist, int) else count

    def asked(series: str) -> Iterator[Request]:
        name = f"{shape} {shortlist} {series}"
        if isinstance(size, int):
            return requests.rank(workload.questions(name, size), shortlist)
        return requests.rank(workload.impressions(name, visits), shortlist)

    named = shortlist_shape(shape, shortlist)
    return Kind(named, setup.at_once(judged), asked("warm-up"), asked("counted"))


def take_turn(kind: Kind, url: str, process: psutil.Process, seconds: float) -> None:
    """Raises LoadTestError if a request fails."""
    send = partial(send_closed, url, at_once=kind.at_once)
    if not kind.calls:
        asyncio.run(send(kind.warm_up, seconds=min(MIN_WARM_UP_S, seconds / 2)))
    before = cpu_seconds(process)
    calls = asyncio.run(send(kind.counted, seconds=seconds))
    kind.cpu_seconds += cpu_seconds(process) - before
    kind.seconds += duration(calls)
    kind.calls += calls


def get_known(url: str, workload: Workload) -> None:
    """Have the service embed all titles, as a site's stories are before they are ranked. Raises
    LoadTestError if its model has no ranker."""
    stories = [requests.as_story(number, one) for number, one in enumerate(workload.stories)]
    with httpx.Client(base_url=url, timeout=600) as client:
        for start in (None, *range(0, len(stories), AT_ONCE)):
            part = stories[:1] if start is None else stories[start : start + AT_ONCE]
            body = {"candidates": part, "shortlist": 1, "degraded": "refuse"}
            answer = client.post("/rank", json=body, headers={"X-Request-Timeout-Ms": "600000"})
            if answer.status_code != 200:
                raise LoadTestError(f"/rank answers {answer.status_code}: {answer.text[:300]}")
            if not answer.json()["ranker"]:
                raise LoadTestError(
                    "the model has no ranker: name a folder that has one with --ranker"
                )
