"""How many bytes the store takes for a story, an impression and a click.

    python -m loadtests.store.size                                  # SQLite, in a new file
    python -m loadtests.store.size --store postgresql://…           # an empty, migrated database

Fills the store through its own code with invented rows, one kind after the other, and reports by
how much tables and indexes grew. A PostgreSQL database must be a new one, and keeps the rows.
"""

import argparse
import random
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, text

from app.store.database import Database
from app.store.events import add_events
from app.store.records import (
    Answer,
    ClickEvent,
    ImpressionEvent,
    ReaderKey,
    Remembered,
    StoredStory,
)
from app.store.tables import metadata
from app.store.writing import keep_answers, put_stories

STORIES = 10_000
BATCH = 1000
WORDS = [
    "the",
    "a",
    "storm",
    "over",
    "city",
    "after",
    "final",
    "record",
    "game",
    "wins",
    "new",
    "law",
    "talks",
    "plan",
    "star",
    "film",
]
KEY = ReaderKey(b"a key for measuring")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of row. write: writes as many, with their ids beginning at a number."""

    name: str
    write: Callable[[Connection, int], object]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.store.size", description=__doc__)
    parser.add_argument("--store", metavar="URL", help="default: a new SQLite file")
    parser.add_argument("--rows", type=int, default=100_000, help="of each kind")
    parser.add_argument("--shown", type=int, default=20, help="stories in an impression")
    parser.add_argument("--history", type=int, default=10, help="stories in a history sent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(options.store or f"sqlite:///{Path(folder) / 'store.sqlite'}")
        database.open()
        print(f"{database.url.get_backend_name()}, {options.shown} stories shown, bytes a row:")
        for name, size in measure(database, options.rows, options.shown, options.history):
            print(f"{size:8.0f}  {name}")
        database.close()


def measure(database: Database, rows: int, shown: int, history: int) -> Iterator[tuple[str, float]]:
    """Each kind of row and its bytes."""
    stories = [StoredStory(f"N{n}", " ".join(random.choices(WORDS, k=10))) for n in range(STORIES)]
    with database.writing() as connection:
        before = size(connection)
        put_stories(connection, stories, time.time())
    with database.reading() as connection:
        yield "story, with a title of 10 words", (size(connection) - before) / STORIES
    for kind in kinds(stories, shown, history):
        with database.reading() as connection:
            before = size(connection)
        for start in range(0, rows, BATCH):
            with database.writing() as connection:
                kind.write(connection, start)
        with database.reading() as connection:
            yield kind.name, (size(connection) - before) / rows


def kinds(stories: list[StoredStory], shown: int, history: int) -> list[Kind]:
    def answers(connection: Connection, remember: bool) -> None:
        keep_answers(connection, [answer(remember) for _ in range(BATCH)], KEY, time.time())

    def answer(remember: bool) -> Answer:
        order = array("H", random.sample(range(shown), shown)).tobytes()
        carried = Remembered(uuid4().hex, some(shown), some(history))
        return Answer(
            *(uuid4().hex, time.time(), "news-smollm2", "default", True, shown, order),
            array("f", [0.04] * shown).tobytes(),
            [story.id for story in carried.shown],
            carried if remember else None,
        )

    def some(count: int) -> list[StoredStory]:
        return random.sample(stories, count)

    def first(number: int) -> str:
        return stories[number % len(stories)].id

    def impressions(connection: Connection, start: int) -> None:
        events = [
            ImpressionEvent(
                *(f"i{n}", time.time(), uuid4().hex),
                [first(n), *(one.id for one in some(shown - 1))],
            )
            for n in range(start, start + BATCH)
        ]
        add_events(connection, events, [], KEY, time.time())

    def clicks(connection: Connection, start: int) -> None:
        events = [
            ClickEvent(uuid4().hex, time.time(), uuid4().hex, first(n), f"i{n}")
            for n in range(start, start + BATCH)
        ]
        add_events(connection, [], events, KEY, time.time())

    return [
        Kind("answer, not remembered", lambda connection, _: answers(connection, False)),
        Kind("answer, remembered", lambda connection, _: answers(connection, True)),
        Kind("impression event", impressions),
        Kind("click event, with its outcome", clicks),
    ]


def size(connection: Connection) -> int:
    """Bytes of all tables with their indexes."""
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        free = connection.execute(text("PRAGMA freelist_count")).scalar_one()
        return int((pages - free) * connection.execute(text("PRAGMA page_size")).scalar_one())
    sizes = ", ".join(f"pg_total_relation_size('{name}')" for name in metadata.tables)
    return sum(connection.execute(text(f"SELECT {sizes}")).one())


if __name__ == "__main__":
    main()
