"""What leaves the store: rows too old or too many, and what was to be erased.

Deletions take small steps, so that no lock is held for long, and of several instances one works at
a time.
"""

import math
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
    text,
)

from app.store.changes import CHANGES_KEPT_S
from app.store.database import Database
from app.store.events import add_waiting
from app.store.hours import mark_hours
from app.store.tables import (
    changes,
    clicks,
    erasures,
    impressions,
    instances,
    live_figures,
    stories,
    vectors,
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


def trim(database: Database, retention: Retention) -> frozenset[bytes]:
    """One pass over everything. Returns the readers erased lately. Raises SQLAlchemyError."""
    now = database.now()
    steps = [
        (impressions.c.time, retention.days * DAY_S),
        (clicks.c.time, retention.days * DAY_S),
        (stories.c.updated, retention.story_days * DAY_S),
        (vectors.c.written, retention.story_days * DAY_S),
        (instances.c.seen, INSTANCE_KEPT_S),
        (erasures.c.time, ERASURE_KEPT_S),
    ]
    for column, kept_s in steps:
        while delete_some(database, column, column < now - kept_s):
            pass
    counted = select(live_figures.c.number).scalar_subquery()
    old = (changes.c.time < now - CHANGES_KEPT_S) & (changes.c.number <= counted)
    while delete_some(database, changes.c.time, old):
        pass
    for table in (impressions, clicks):
        if retention.rows:
            delete_surplus(database, table, retention.rows)
    with database.writing() as connection:
        again = connection.execute(select(erasures.c.reader, erasures.c.time)).all()
    for reader, time in again:
        erase_reader(database, reader, time)
    with database.writing() as connection:
        if alone(connection, RETENTION_LOCK):
            add_waiting(connection, now)
    return frozenset(reader for reader, _ in again)


def alone(connection: Connection, lock: int) -> bool:
    """Whether no other instance holds the lock, which is this one's until its transaction ends.

    SQLite has no such locks: its file is written by one at a time.
    """
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.execute(text(f"SELECT pg_try_advisory_xact_lock({lock})")).scalar_one())


def delete_some(database: Database, column: Column[float], condition: ColumnElement[bool]) -> bool:
    """Delete up to STEP_ROWS rows, in the column's order; returns whether there may be more."""
    with database.writing() as connection:
        if not alone(connection, RETENTION_LOCK):
            return False
        return delete_step(connection, column, condition, database.now()) == STEP_ROWS


def delete_step(
    connection: Connection, column: Column[float], condition: ColumnElement[bool], now: float
) -> int:
    """Delete up to STEP_ROWS rows, in the column's order; returns how many.

    The order makes the database use the column's index. Otherwise it may read the table from its
    beginning in each step, over all that earlier steps have deleted.
    """
    table = column.table
    (key,) = table.primary_key.columns
    some = select(key).where(condition).order_by(column).limit(STEP_ROWS)
    gone = delete(table).where(key.in_(some))
    if table is not impressions:
        return connection.execute(gone).rowcount
    times = connection.execute(gone.returning(impressions.c.time)).scalars().all()
    mark_hours(connection, times, now)
    return len(times)


def delete_surplus(database: Database, table: Table, rows: int) -> None:
    """Delete the oldest of all rows but the newest `rows`, by time.

    To count that far takes seconds with millions of rows, so it is left out while the numbers given
    since the oldest row show that there can't be too many.
    """
    with database.reading(timeout_s=60) as connection:
        number = table.c.number
        ends = select(select(func.max(number)).scalar_subquery())
        ends = ends.add_columns(select(func.min(number)).scalar_subquery())
        last, first = connection.execute(ends).one()
        if last is None or last - first < rows:
            return
        times = select(table.c.time).order_by(table.c.time.desc()).offset(rows).limit(1)
        newest = connection.execute(times).scalar()
        if newest is None:
            return
        newer = select(func.count()).where(table.c.time > newest)
        room = rows - connection.execute(newer).scalar_one()
        same = select(number).where(table.c.time == newest).order_by(number.desc()).offset(room)
        last_of_same = connection.execute(same.limit(1)).scalar_one()
    surplus = or_(table.c.time < newest, number <= last_of_same)
    while delete_some(database, table.c.time, and_(table.c.time <= newest, surplus)):
        pass


def erase_reader(database: Database, reader: bytes, before: float = math.inf) -> Erased:
    """Delete a reader's impressions, with their outcomes, and clicks. Raises SQLAlchemyError.

    before: keep what is newer. Without it, events whose time is ahead of the clock go, too.
    """
    counts = []
    for table in (impressions, clicks):
        removed = 0
        while True:
            with database.writing() as connection:
                own = and_(table.c.reader == reader, table.c.time <= before)
                step = delete_step(connection, table.c.time, own, database.now())
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
