"""The loads that `loadtests.limit` sends to our service and its peers over HTTP."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from loadtests.limit import requests
from loadtests.limit.closed_load import Request, send_closed
from loadtests.limit.machine import IDLE_RANK_SIZE, Setup
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

MIN_WARM_UP_S = 2.0
MIN_IDLE_CALLS = 20
"""Fewer calls would not give a 95th percentile."""


@dataclass(frozen=True)
class Load:
    """One row to measure over HTTP.

    at_once: calls in flight. targets: stories per question. series: name of the questions, which
    no other load on the same server may share.
    """

    subject: str
    shape: str
    layout: str
    at_once: int
    targets: int
    series: str
    requests: Callable[[Iterator[Any]], Iterator[Request]]
    min_calls: int = 1


def our_loads(setup: Setup) -> list[Load]:
    at_once, layout = setup.concurrency, setup.layout
    loads = [Load(HTTP, "predict", layout, at_once, 1, "predict", requests.predict)]
    for count in setup.rank_sizes:
        name, many = f"rank {count}", setup.at_once(count)
        loads.append(Load(HTTP, name, layout, many, count, name, requests.rank))
    if setup.reduced:
        return loads
    batch = partial(requests.predict_batch, size=max(1, at_once // 2))
    idle = f"rank {IDLE_RANK_SIZE}, idle"
    return [
        *loads,
        Load(HTTP, "predict, batches", layout, 2, 1, "batches", batch),
        Load(HTTP, idle, layout, 1, IDLE_RANK_SIZE, idle, requests.rank, min_calls=MIN_IDLE_CALLS),
    ]


def vllm_loads(setup: Setup, workload: Workload) -> list[Load]:
    """Chat as the original project uses it, in its layout; completions and scoring in ours as well.

    Two layouts may use the same series, since their prompts share no prefix.
    """
    at_once = setup.concurrency
    few = setup.at_once(50)
    loads = []
    for shape, targets in (("predict", 1), ("rank 50", 50)):
        chat = partial(requests.chat, workload=workload, layout=ORIGINAL)
        for subject, many in ((CHAT, 1), (CHATS, at_once)):
            series = f"{subject} {shape}"
            loads.append(Load(subject, shape, ORIGINAL, many, targets, series, chat))
    for layout in dict.fromkeys((ORIGINAL, setup.layout)):
        complete = partial(requests.complete, workload=workload, layout=layout)
        score = partial(requests.score, workload=workload, layout=layout)
        own = f"{COMPLETIONS} rank 50"
        loads += [
            Load(COMPLETIONS, "predict", layout, at_once, 1, "predict", complete),
            Load(COMPLETIONS, "rank 50", layout, few, 50, own, complete),
            Load(SCORING, "rank 50", layout, few, 50, "rank 50", score),
        ]
    return loads


def plain_loads(workload: Workload) -> list[Load]:
    chat = partial(requests.chat, workload=workload, layout=ORIGINAL)
    return [Load(TRANSFORMERS, "predict", ORIGINAL, 1, 1, "predict", chat)]


def measure_loads(
    url: str, pid: int, loads: Sequence[Load], workload: Workload, seconds: float
) -> Iterator[Row]:
    """Measure each load after a warm-up with other readers; a failure becomes a row with an error.

    pid: the server's process.
    """
    process = psutil.Process(pid)
    for load in loads:
        start = (load.subject, load.shape, load.layout, load.at_once)
        warm, counted = (
            load.requests(workload.questions(name, load.targets))
            for name in (f"{load.series} warm-up", load.series)
        )
        try:
            asyncio.run(send_closed(url, warm, load.at_once, max(MIN_WARM_UP_S, seconds / 5)))
            before = cpu_seconds(process)
            calls = asyncio.run(send_closed(url, counted, load.at_once, seconds, load.min_calls))
            own = cpu_seconds(process) - before if load.subject != TRANSFORMERS else None
            yield Row(*start, measure(calls, own))
        except (LoadTestError, LookupError, ValueError, psutil.Error) as error:
            yield Row(*start, error=str(error) or type(error).__name__)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of the process itself, without its children, of which the engine is one."""
    times = process.cpu_times()
    return float(times.user + times.system)
