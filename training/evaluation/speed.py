"""How fast a model answers: samples a second and the duration of a call, by batch or concurrency.

Every sample is new: its reader's stories are drawn at random from those of the measured set, in
lists as long as a real reader's. So no cache of earlier prompts answers for the model. What all
prompts begin with is shared, as it is when serving.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

import numpy as np

from app.scoring.wording import Reader, Story
from training.data.prepared import Impression
from training.evaluation.record import Speed

Call = Callable[[Sequence[Impression]], object]

MIN_CALLS = 3


def measure(
    tasks: Mapping[str, Call],
    impressions: Sequence[Impression],
    concurrent: bool,
    sizes: Sequence[int],
    seconds: float,
) -> list[Speed]:
    """Time each task at each size.

    tasks: what is asked for by name, such as a backend's `score`. A size is the number of samples
    in a call or, if `concurrent`, of calls of one sample at once. seconds: how long each timing
    lasts; it takes at least MIN_CALLS calls.
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
                Speed(
                    task=task,
                    mode="concurrent calls" if concurrent else "batch",
                    size=size,
                    samples_per_s=rate,
                    latency_p50_ms=float(p50),
                    latency_p95_ms=float(p95),
                    calls=len(latencies),
                )
            )
    return rows


def time_batches(
    call: Call, samples: Iterator[Impression], size: int, seconds: float
) -> tuple[list[float], float]:
    """Calls of `size` samples, one after the other: the seconds of each, and samples a second."""
    call([next(samples) for _ in range(size)])  # a shape met for the first time is slower
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while len(latencies) < MIN_CALLS or time.perf_counter() < end:
        batch = [next(samples) for _ in range(size)]
        started = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - started)
    return latencies, size * len(latencies) / sum(latencies)


def time_concurrent(
    call: Call, samples: Iterator[Impression], size: int, seconds: float
) -> tuple[list[float], float]:
    """Calls of one sample by `size` threads without a pause: the seconds of each, and calls a
    second. The time of the last calls, when some threads have already ended, counts as well."""
    lock = Lock()
    begun = time.perf_counter()

    def keep_calling(_: int) -> list[float]:
        latencies: list[float] = []
        while len(latencies) < MIN_CALLS or time.perf_counter() < begun + seconds:
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
    """Samples of one candidate each without end, with readers never seen before."""
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
    """The reader's stories and the candidates."""
    reader = impression.reader
    return [*reader.history, *reader.liked, *reader.disliked, *impression.candidates]
