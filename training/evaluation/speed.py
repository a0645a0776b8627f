"""How fast a model answers: samples a second, and how long a call takes, by batch or concurrency.

Every sample is new: its reader's stories are drawn at random from those of the measured set, with
lists as long as a real reader's. So no cache of earlier prompts answers for the model; what all
prompts begin with is shared, as it is when serving.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from app.scoring.wording import Reader, Story
from training.data.prepared import Impression

Call = Callable[[Sequence[Impression]], object]

LEAST_CALLS = 3


def measure(
    tasks: Mapping[str, Call],
    impressions: Sequence[Impression],
    concurrent: bool,
    sizes: Sequence[int],
    seconds: float,
) -> list[dict[str, Any]]:
    """A row a task and size.

    tasks: what is asked for, by its name in the rows, such as a backend's score. A size is samples
    a call, or, if `concurrent`, calls of one sample at once. seconds: for how long each is
    measured, and at least for LEAST_CALLS calls.
    """
    rows = []
    samples = fresh_samples(impressions, seed=0)
    for task, call in tasks.items():
        call([next(samples)])  # compiles, connects
        for size in sizes:
            timing = time_concurrent if concurrent else time_batches
            latencies, rate = timing(call, samples, size, seconds)
            p50, p95 = np.percentile(latencies, [50, 95]) * 1000
            rows.append(
                {
                    "task": task,
                    "mode": "concurrent calls" if concurrent else "batch",
                    "size": size,
                    "samples_per_s": rate,
                    "latency_p50_ms": float(p50),
                    "latency_p95_ms": float(p95),
                    "calls": len(latencies),
                }
            )
    return rows


def time_batches(
    call: Call, samples: Iterator[Impression], size: int, seconds: float
) -> tuple[list[float], float]:
    """Calls of `size` samples, one after the other: seconds of each, and samples a second."""
    call([next(samples) for _ in range(size)])  # a shape met for the first time is slower
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while len(latencies) < LEAST_CALLS or time.perf_counter() < end:
        batch = [next(samples) for _ in range(size)]
        started = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - started)
    return latencies, size * len(latencies) / sum(latencies)


def time_concurrent(
    call: Call, samples: Iterator[Impression], size: int, seconds: float
) -> tuple[list[float], float]:
    """Calls of one sample by `size` threads without a pause: seconds of each, and calls a second.
    The time of the last calls, when some threads have ended already, counts too."""
    lock = Lock()
    begun = time.perf_counter()

    def keep_calling(_: int) -> list[float]:
        latencies: list[float] = []
        while len(latencies) < LEAST_CALLS or time.perf_counter() < begun + seconds:
            with lock:
                sample = next(samples)
            started = time.perf_counter()
            call([sample])
            latencies.append(time.perf_counter() - started)
        return latencies

    with ThreadPoolExecutor(size) as pool:
        latencies = [latency for part in pool.map(keep_calling, range(size)) for latency in part]
    return latencies, len(latencies) / (time.perf_counter() - begun)


def fresh_samples(impressions: Sequence[Impression], seed: int) -> Iterator[Impression]:
    """Endless samples of one candidate each, with readers that were never seen."""
    random = np.random.default_rng(seed)
    known = {id(story): story for row in impressions for story in all_stories(row)}
    pool = list(known.values())

    def draw(count: int) -> list[Story]:
        return [pool[i] for i in random.integers(len(pool), size=count)]

    while True:
        like = impressions[int(random.integers(len(impressions)))]
        lists = (like.reader.history, like.reader.liked, like.reader.disliked)
        reader = Reader(*(draw(len(stories)) for stories in lists))
        yield replace(
            like, reader=reader, candidates=draw(1), candidate_ids=["drawn"], clicked=None
        )


def all_stories(impression: Impression) -> list[Story]:
    reader = impression.reader
    return [*reader.history, *reader.liked, *reader.disliked, *impression.candidates]
