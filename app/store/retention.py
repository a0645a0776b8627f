"""What leaves the store: rows too old or too many, and what was to be erased.

Deletions take small steps, so that no lock is held for long, and of several instances one works at
a time.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Table, delete, func, select, text

from app.store.changes import CHANGES_KEPT_S
from app.store.database import Database
from app.store.events import add_waiting
from app.store.tables import (
    changes,
    clicks,
    erasures,
    impressions,
    instances,
    live_figures,
    stories,
)

DAY_S = 86400.0
STEP_ROWS = 5_000
"""How many rows one transaction deletes at most."""
SCANNED_ROWS = 50_000
"""How many rows one transaction reads at most, in search of those to delete."""
ERASURE_KEPT_S = 3600.0
"""For how long rows of an erased reader that arrive late are deleted too: an instance may have
queued them before it heard of the erasure."""
INSTANCE_KEPT_S = 3600.0
RETENTION_LOCK = 0x5472696D
"""PostgreSQL's advisory lock of the instance that deletes: "Trim"."""


@dataclass(frozen=True, slots=True)
class Retention:
    """days: how long impressions and clicks are kept. rows: how many of each; with 0, no answers
    are kept for feedback, and only the days limit events. story_days: how long a story is kept
    after it was last sent or shown."""

    days: float = 30.0
    rows: int = 1_000_000
    story_days: float = 365.0


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows of each kind an erasure removed."""

    impressions: int
    clicks: int
    stories: int = 0


def trim(database: Database, retention: Retention) -> None:
    """One pass over everything. Raises SQLAlchemyError."""
    now = database.now()
    counted = select(live_figures.c.number).scalar_subquery()
    steps = [
        (impressions, impressions.c.time < now - retention.days * DAY_S),
        (clicks, clicks.c.time < now - retention.days * DAY_S),
        (stories, stories.c.updated < now - retention.story_days * DAY_S),
        (instances, instances.c.seen < now - INSTANCE_KEPT_S),
        (erasures, erasures.c.time < now - ERASURE_KEPT_S),
        (changes, (changes.c.time < now - CHANGES_KEPT_S) & (changes.c.number <= counted)),
    ]
    for table, condition in steps:
        while delete_some(database, table, condition):
            pass
    for table in (impressions, clicks):
        while retention.rows and delete_surplus(database, table, retention.rows):
            pass
    with database.writing() as connection:
        again = connection.execute(select(erasures.c.reader, erasures.c.time)).all()
    for reader, time in again:
        erase_reader(database, reader, time)
    with database.writing() as connection:
        if alone(connection):
            add_waiting(connection, now)


def alone(connection: Connection) -> bool:
    """Whether no other instance deletes at the moment; on SQLite the file's lock sees to that."""
    if connection.dialect.name == "sqlite":
        return True
    found = connection.execute(text(f"SELECT pg_try_advisory_xact_lock({RETENTION_LOCK})"))
    return bool(found.scalar_one())


def delete_some(database: Database, table: Table, condition: object) -> bool:
    """Delete up to STEP_ROWS rows; returns whether there may be more."""
    (key,) = table.primary_key.columns
    with database.writing() as connection:
        if not alone(connection):
            return False
        some = select(key).where(condition).limit(STEP_ROWS)  # type: ignore[arg-type]
        return connection.execute(delete(table).where(key.in_(some))).rowcount == STEP_ROWS


def delete_surplus(database: Database, table: Table, rows: int) -> bool:
    """Delete the oldest of all rows but the newest `rows`, by time; returns whether there may be
    more."""
    with database.reading(timeout_s=60) as connection:
        times = select(table.c.time).order_by(table.c.time.desc()).offset(rows).limit(1)
        newest = connection.execute(times).scalar()
    if newest is None:
        return False
    return delete_some(database, table, table.c.time <= newest)


def erase_reader(database: Database, reader: bytes, before: float) -> Erased:
    """Delete a reader's impressions, with their outcomes, and clicks. Raises SQLAlchemyError."""
    counts = []
    for table in (impressions, clicks):
        removed = 0
        while True:
            with database.writing() as connection:
                some = (
                    select(table.c.number)
                    .where(table.c.reader == reader, table.c.time <= before)
                    .limit(STEP_ROWS)
                )
                step = connection.execute(delete(table).where(table.c.number.in_(some))).rowcount
            removed += step
            if step < STEP_ROWS:
                break
        counts.append(removed)
    return Erased(*counts)


def erase_story(database: Database, story: str) -> Erased:
    """Delete a story and the clicks on it. Impressions keep its id, which names no text. Raises
    SQLAlchemyError.

    Clicks have no index by story, so all are read, SCANNED_ROWS at a time.
    """
    with database.writing() as connection:
        removed = connection.execute(delete(stories).where(stories.c.id == story)).rowcount
        numbers = select(func.min(clicks.c.number), func.max(clicks.c.number))
        first, last = connection.execute(numbers).one()
    clicked = 0
    for start in range(first or 0, (last or 0) + 1, SCANNED_ROWS):
        within = clicks.c.number.between(start, start + SCANNED_ROWS - 1)
        with database.writing() as connection:
            step = delete(clicks).where(within, clicks.c.story == story)
            clicked += connection.execute(step).rowcount
    return Erased(0, clicked, removed)
