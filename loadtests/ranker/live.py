"""How much of a core the live figures take, and how long an instance needs to have them at a start.

    python -m loadtests.ranker.live                    # SQLite, in a new file
    python -m loadtests.ranker.live --store postgresql://…    # an empty, migrated database

Stores some seconds of a site's events, then counts them as an instance does, and compares the
processor time of its thread with these seconds. Batches are as large as the rate makes them within
half a second. Meanwhile another thread looks up a reader's candidates again and again, as /rank
does. Then a second instance starts with the snapshot.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from app.live.live import POLL_S, Live
from app.store.database import Database
from app.store.events import add_events
from app.store.records import ClickEvent, ImpressionEvent, ReaderKey, StoredStory
from app.store.writing import put_stories

CLICK_SHARE = 0.05
BATCH_EVENTS = 100
"""How many events the site sends at once."""
CATEGORIES = 20
CANDIDATES = 50
PAUSE_S = 0.01
"""Between two look-ups."""
KEY = ReaderKey(b"a key for measuring")


@dataclass(frozen=True)
class Options:
    """rate: events a second. stories: of the site. shown: stories in an impression."""

    store: str | None
    rate: int
    seconds: float
    stories: int
    shown: int


@dataclass(frozen=True)
class Figures:
    """cores: processor seconds of the thread for each second of events. lookups: how many seconds
    look-ups took while it worked. start_s: until a new instance has the figures of as many stories
    as there are."""

    cores: float
    lookups: list[float]
    stories: int
    keep_s: float
    start_s: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.ranker.live", description=__doc__)
    parser.add_argument("--store", metavar="URL", help="default: a new SQLite file")
    parser.add_argument("--rate", type=int, default=5000, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of events")
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--shown", type=int, default=5, help="stories in an impression")
    options = Options(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, options.store or f"sqlite:///{Path(folder) / 'store.sqlite'}")
    print(f"counting {options.rate} events a second: {found.cores:.3f} of a core")
    hundredths = quantiles(found.lookups, n=100)
    p50, p99 = hundredths[49] * 1e3, hundredths[98] * 1e3
    print(f"looking up {CANDIDATES} stories meanwhile: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(f"writing a snapshot of {found.stories} stories: {found.keep_s:.2f} s")
    print(f"starting with it: {found.start_s:.2f} s")


def measure(options: Options, url: str) -> Figures:
    database = Database(url)
    database.open()
    fill_stories(database, options)
    live, other = (Live(database, None, options.stories) for _ in range(2))
    used, lookups = 0.0, list[float]()
    for _ in range(round(options.seconds / POLL_S)):
        fill_events(database, options, POLL_S)
        used += follow(live, options, lookups)
    started = time.perf_counter()
    live.keep_snapshot()
    kept = time.perf_counter()
    other.follow()
    done = time.perf_counter()
    database.close()
    return Figures(used / options.seconds, lookups, len(other), kept - started, done - kept)


def follow(live: Live, options: Options, lookups: list[float]) -> float:
    """Count what is new; returns the processor time that it took. lookups: gets more."""
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(count_all, live)
        while not lookups or not counting.done():
            chosen = random.choices(range(options.stories), k=CANDIDATES)
            candidates, nothing = [name(one) for one in chosen], [None] * CANDIDATES
            started = time.perf_counter()
            live.figures(candidates, nothing, time.time())
            lookups.append(time.perf_counter() - started)
            time.sleep(PAUSE_S)
        return counting.result()


def count_all(live: Live) -> float:
    """The processor time that it took."""
    started = time.thread_time()
    while live.follow():
        pass
    return time.thread_time() - started


def fill_stories(database: Database, options: Options) -> None:
    for start in range(0, options.stories, 10_000):
        some = [
            StoredStory(name(n), f"Story {n}", f"category {n % CATEGORIES}")
            for n in range(start, min(start + 10_000, options.stories))
        ]
        with database.writing() as connection:
            put_stories(connection, some, time.time())


def fill_events(database: Database, options: Options, seconds: float) -> None:
    count = round(options.rate * seconds)
    clicks = round(count * CLICK_SHARE)
    shown = list(impressions(options, count - clicks))
    clicked = [
        ClickEvent(f"c{one.id}", one.time, one.reader_id, one.stories[0], one.id)
        for one in random.sample(shown, clicks)
    ]
    for start in range(0, len(shown), BATCH_EVENTS):
        with database.writing() as connection:
            add_events(connection, shown[start : start + BATCH_EVENTS], [], KEY, time.time())
    for start in range(0, len(clicked), BATCH_EVENTS):
        with database.writing() as connection:
            add_events(connection, [], clicked[start : start + BATCH_EVENTS], KEY, time.time())


def impressions(options: Options, count: int) -> Iterator[ImpressionEvent]:
    for _ in range(count):
        number = random.getrandbits(60)
        stories = random.sample(range(options.stories), options.shown)
        yield ImpressionEvent(
            *(f"i{number}", time.time(), f"u{number % 1_000_000}"), [name(one) for one in stories]
        )


def name(number: int) -> str:
    return f"N{number}"


if __name__ == "__main__":
    main()
