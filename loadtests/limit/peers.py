"""What `loadtests.limit` asks our service and its peers over HTTP."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from loadtests.limit import asks
from loadtests.limit.closed_load import Ask, ask_closed
from loadtests.limit.machine import IDLE, Setup
from loadtests.limit.speed import (
    CHAT,
    CHATS,
    COMPLETIONS,
    HTTP,
    ORIGINAL,
    SCORING,
    TRANSFORMERS,
    Row,
    measure,
)
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError

WARM_UP = 2.0
"""Seconds at least."""
IDLE_CALLS = 20
"""At least, for a 95th percentile."""


@dataclass(frozen=True)
class Load:
    """One row to measure over HTTP. series: its questions; no two of a server's rows share any."""

    subject: str
    shape: str
    layout: str
    at_once: int
    targets: int
    series: str
    asks: Callable[[Iterator[Any]], Iterator[Ask]]
    least: int = 1


def our_loads(setup: Setup) -> list[Load]:
    at_once, layout = setup.concurrency, setup.layout
    loads = [Load(HTTP, "predict", layout, at_once, 1, "predict", asks.predict)]
    for count in setup.ranked:
        name, many = f"rank {count}", setup.at_once(count)
        loads.append(Load(HTTP, name, layout, many, count, name, asks.rank))
    if setup.reduced:
        return loads
    batch = partial(asks.predict_batch, size=max(1, at_once // 2))
    idle = f"rank {IDLE}, idle"
    return [
        *loads,
        Load(HTTP, "predict, batches", layout, 2, 1, "batches", batch),
        Load(HTTP, idle, layout, 1, IDLE, idle, asks.rank, least=IDLE_CALLS),
    ]


def vllm_loads(setup: Setup, workload: Workload) -> list[Load]:
    """The original project's way in its own layout; the others in ours as well. A series serves two
    layouts, which share no prefix."""
    at_once = setup.concurrency
    few = setup.at_once(50)
    loads = []
    for shape, targets in (("predict", 1), ("rank 50", 50)):
        chat = partial(asks.chat, workload=workload, layout=ORIGINAL)
        for subject, many in ((CHAT, 1), (CHATS, at_once)):
            series = f"{subject} {shape}"
            loads.append(Load(subject, shape, ORIGINAL, many, targets, series, chat))
    for layout in dict.fromkeys((ORIGINAL, setup.layout)):
        complete = partial(asks.complete, workload=workload, layout=layout)
        score = partial(asks.score, workload=workload, layout=layout)
        own = f"{COMPLETIONS} rank 50"
        loads += [
            Load(COMPLETIONS, "predict", layout, at_once, 1, "predict", complete),
            Load(COMPLETIONS, "rank 50", layout, few, 50, own, complete),
            Load(SCORING, "rank 50", layout, few, 50, "rank 50", score),
        ]
    return loads


def plain_loads(workload: Workload) -> list[Load]:
    chat = partial(asks.chat, workload=workload, layout=ORIGINAL)
    return [Load(TRANSFORMERS, "predict", ORIGINAL, 1, 1, "predict", chat)]


def measure_loads(
    url: str, pid: int, loads: Sequence[Load], workload: Workload, seconds: float
) -> Iterator[Row]:
    """A row a load; each has readers of its own, before it is counted too."""
    process = psutil.Process(pid)
    for load in loads:
        start = (load.subject, load.shape, load.layout, load.at_once)
        warm, counted = (
            load.asks(workload.questions(name, load.targets))
            for name in (f"{load.series} warm-up", load.series)
        )
        try:
            asyncio.run(ask_closed(url, warm, load.at_once, max(WARM_UP, seconds / 5)))
            before = cpu_seconds(process)
            calls = asyncio.run(ask_closed(url, counted, load.at_once, seconds, load.least))
            own = cpu_seconds(process) - before if load.subject != TRANSFORMERS else None
            yield Row(*start, measure(calls, own))
        except (LoadTestError, LookupError, ValueError, psutil.Error) as error:
            yield Row(*start, error=str(error) or type(error).__name__)


def cpu_seconds(process: psutil.Process) -> float:
    """Of the server's own process. The engine's are its children; transformers has none."""
    times = process.cpu_times()
    return float(times.user + times.system)
