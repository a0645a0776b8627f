"""How quick a store of millions of impressions is. Fill an empty PostgreSQL database, then measure:

    python -m loadtests.store.large fill postgresql://… --impressions 10000000
    python -m loadtests.store.large measure postgresql://…

`measure` sums the past hours as the service does in the background, then times `/experiments`, the
reading of readers' histories, and feedback beside a retention pass of another process. That pass
deletes --surplus impressions, so each measurement leaves fewer.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from hashlib import md5

import numpy as np
import psycopg
from sqlalchemy import Connection, func, select, text

from app.feedback.hours import sum_hours
from app.feedback.reports import Reports
from app.store.database import Database
from app.store.reading import read_history
from app.store.records import ReaderKey
from app.store.retention import Retention, trim
from app.store.store import Store
from app.store.tables import clicks, figures, impressions, outcomes

STORIES = 10
TEMPLATES = 1000
"""How many different orders and probabilities the answers have."""
STEP_ROWS = 500_000
DAYS = 7
FILL = """
INSERT INTO impressions
  (id, time, model, alias, ranked, stories, indices, probabilities, reader, story_ids)
SELECT md5('answer' || n), :start + n * :gap, 'model ' || n % 2, 'default', true, :stories, indices,
  probabilities, decode(md5('reader' || (random() * :readers)::int), 'hex'), story_ids
FROM generate_series(:first, :last) AS n JOIN templates ON slot = n % :templates;
INSERT INTO outcomes
SELECT n + 1, n % 7, n % 3 = 0, :start + n * :gap + 60
FROM generate_series(:first, :last) AS n WHERE n % 2 = 0;
INSERT INTO clicks (id, time, reader, story)
SELECT md5('click' || n), :start + n * :gap + 60,
  decode(md5('reader' || (random() * :readers)::int), 'hex'), 'N' || n % 20000
FROM generate_series(:first, :last) AS n WHERE n % 5 = 0;
"""
"""Half of the answers have feedback, a third of it clicks. Clicks of readers come from events."""


def fill(url: str, count: int) -> None:
    """Write `count` impressions of the last DAYS days and what belongs to them."""
    database = Database(url)
    database.migrate()
    indexes = [*impressions.indexes, *clicks.indexes]
    unique = [(table.name, f"{table.name}_id_key") for table in (impressions, clicks)]
    with database.writing() as connection:
        if connection.execute(select(impressions.c.number).limit(1)).scalar() is not None:
            sys.exit("the store is not empty")
        # Indexes are quicker to build than to keep.
        for index in indexes:
            index.drop(connection)
        for table, name in unique:
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        connection.execute(text("ALTER TABLE outcomes DROP CONSTRAINT outcomes_impression_fkey"))
    start = database.now() - DAYS * 86400
    for first in range(0, count, STEP_ROWS):
        with database.writing() as connection:
            prepare(connection)
            last = min(first + STEP_ROWS, count) - 1
            span = {"first": first, "last": last, "start": start, "gap": DAYS * 86400 / count}
            for statement in FILL.split(";")[:-1]:
                names = {"stories": STORIES, "templates": TEMPLATES, "readers": count // 20}
                connection.execute(text(statement), names | span)
        print(f"{last + 1:,} impressions", flush=True)
    with database.writing() as connection:
        prepare(connection)
        for table, name in unique:
            connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (id)"))
        for index in indexes:
            index.create(connection)
        connection.execute(
            text(
                "ALTER TABLE outcomes ADD FOREIGN KEY (impression) REFERENCES impressions"
                " ON DELETE CASCADE"
            )
        )
    database.close()
    with psycopg.connect(url, autocommit=True) as plain:
        plain.execute("VACUUM ANALYZE")


def prepare(connection: Connection) -> None:
    """Allow long statements, and make the table of templates for this transaction."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL synchronous_commit = off"))
    connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
    connection.execute(
        text(
            "CREATE TEMPORARY TABLE templates (slot int, indices bytea, probabilities bytea,"
            " story_ids text) ON COMMIT DROP"
        )
    )
    generator = np.random.default_rng(0)
    rows = []
    for slot in range(TEMPLATES):
        scores = np.sort(generator.beta(1, 15, STORIES))[::-1].astype(np.float32)
        order = [int(place) for place in generator.permutation(STORIES)]
        ids = json.dumps([f"N{generator.integers(20_000)}" for _ in range(STORIES)])
        one = {"slot": slot, "indices": array("H", order).tobytes(), "ids": ids}
        rows.append(one | {"probabilities": scores.tobytes()})
    connection.execute(
        text("INSERT INTO templates VALUES (:slot, :indices, :probabilities, :ids)"), rows
    )
    connection.execute(
        text(
            "INSERT INTO stories SELECT 'N' || n, 'Story ' || n, 'news', NULL, 0"
            " FROM generate_series(0, 19999) AS n ON CONFLICT DO NOTHING"
        )
    )


def measure(url: str, surplus: int) -> None:
    database = Database(url)
    database.open()
    describe(database)
    began = time.perf_counter()
    sum_hours(database, 0, lambda: False)
    with database.reading() as connection:
        hours = connection.execute(select(func.count(figures.c.hour))).scalar_one()
        taken = connection.execute(text("SELECT pg_total_relation_size('figures')")).scalar_one()
    print(f"sums of {hours} hours: {time.perf_counter() - began:.1f} s, {taken / 1e6:.1f} MB")
    asyncio.run(measure_requests(database, url, surplus))
    database.close()


def describe(database: Database) -> None:
    with database.reading(60) as connection:
        print(connection.execute(text("SELECT version()")).scalar())
        for table in (impressions, outcomes, clicks):
            rows, size = connection.execute(
                text(f"SELECT count(*), pg_total_relation_size('{table.name}') FROM {table.name}")
            ).one()
            print(f"{table.name}: {rows:,} rows of {size / max(rows, 1):.0f} bytes with indexes")


async def measure_requests(database: Database, url: str, surplus: int) -> None:
    with database.reading(60) as connection:
        count = connection.execute(select(func.count()).select_from(impressions)).scalar_one()
        newest = connection.execute(select(func.max(impressions.c.number))).scalar_one()
    store = Store(database, Retention(3650, count), ReaderKey(b"a key for measurements"))
    store.start()
    reports = Reports(store)
    times = [await timed(lambda: reports.report(days=DAYS)) for _ in range(5)]
    print(f"/experiments?days={DAYS}: {', '.join(f'{one:.2f}' for one in times)} s")

    async def read() -> None:
        reader = f"decode(md5('reader{random.randrange(count // 20)}'), 'hex')"
        await store.reads.read(
            lambda connection: read_history(
                connection, connection.execute(text(f"SELECT {reader}")).scalar_one(), 50, 0
            )
        )

    async def click() -> None:
        answer = f"answer{random.randrange(newest - count // 10, newest)}"
        digest = md5(answer.encode(), usedforsecurity=False).hexdigest()
        await store.record(digest, random.randrange(STORIES), True)

    await report("a reader's history", read, lambda: False, 1000)
    await report("feedback alone", click, lambda: False, 1000)
    command = [sys.executable, "-m", "loadtests.store.large", "trim", url]
    began = time.perf_counter()
    other = await asyncio.create_subprocess_exec(*command, "--rows", str(count - surplus))
    await report("feedback beside retention", click, lambda: other.returncode is not None)
    print(f"the retention pass took {time.perf_counter() - began:.1f} s for {surplus:,} rows")
    store.stop()


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def report(
    name: str, work: Callable[[], Awaitable[object]], done: Callable[[], bool], most: int = 10**6
) -> None:
    """Do the work again and again, one at a time, and print percentiles."""
    times: list[float] = []
    while len(times) < most and not done():
        times.append(await timed(work))
    p50, p95, p99, top = np.percentile(times, [50, 95, 99, 100]) * 1000
    print(
        f"{name}: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, at most {top:.1f} ms, of"
        f" {len(times)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["fill", "measure", "trim"])
    parser.add_argument("store", help="postgresql://…")
    parser.add_argument("--impressions", type=int, default=10_000_000, help="to fill in")
    parser.add_argument("--surplus", type=int, default=100_000, help="impressions to delete")
    parser.add_argument("--rows", type=int, default=10_000_000, help="how many `trim` leaves")
    options = parser.parse_args()
    if options.command == "fill":
        fill(options.store, options.impressions)
    elif options.command == "measure":
        measure(options.store, options.surplus)
    else:
        database = Database(options.store)
        database.open()
        trim(database, Retention(3650, options.rows))
        database.close()


if __name__ == "__main__":
    main()
