"""Sums over the answers of past hours, kept in the store, so that a report need not read them all.

A report uses what is kept of whole hours, and reads the answers of the others, in one snapshot.
Hours whose answers were deleted, or arrived late, count as not kept until they are summed anew, and
so a report finds what it would find by reading everything. Only feedback that comes when its hour
is long over may be missing for a while, LAG of the hour's age: otherwise a little late feedback on
each of many hours would have all of them read or summed again each minute.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from io import BytesIO

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from app.feedback.intervals import Moments
from app.feedback.totals import Group, Totals, read_totals
from app.store.database import Database
from app.store.hours import CLOSED_AFTER_S, HOUR_S, hour_of
from app.store.retention import alone
from app.store.statements import among, chunks
from app.store.tables import changed_hours, figures, impressions

DAY_S = 86_400
TIMEOUT_S = 60.0
"""How many seconds PostgreSQL may take for one statement of a report or of an hour's sums."""
LAG = 1 / 60
"""Late feedback leads to new sums after this share of its hour's age."""
OVERDUE_S = 300.0
"""If it hasn't by so much later, reports read the hour's answers."""
HOURS_LOCK = 0x486F757273
"""PostgreSQL's advisory lock of the instance that sums hours: "Hours"."""


def read_parts(
    connection: Connection, since: float, now: float
) -> Iterator[tuple[float, dict[Group, Totals]]]:
    """Sum all answers since `since`, in parts: yields when each begins, and its sums. No part is of
    two days (UTC). Times are in seconds since 1970. Raises SQLAlchemyError.

    connection: a snapshot of the store.
    """
    changed = select(changed_hours.c.hour).where(due(now - OVERDUE_S))
    kept = connection.execution_options(yield_per=10).execute(
        select(figures.c.hour, figures.c.totals)
        .where(figures.c.hour * HOUR_S >= since, figures.c.hour.not_in(changed))
        .order_by(figures.c.hour)
    )
    read_from, unread = since, []
    for hour, content in kept:
        yield hour * HOUR_S, decode(content)
        if read_from < hour * HOUR_S:
            unread.append((read_from, hour * HOUR_S))
        read_from = (hour + 1) * HOUR_S
    for start, end in [*unread, (read_from, now)]:
        found = select(func.min(impressions.c.time)).where(impressions.c.time >= start)
        if end != now:
            found = found.where(impressions.c.time < end)
        oldest = connection.execute(found).scalar_one()
        for first, last in cut_by_day(oldest, end) if oldest is not None else ():
            yield first, read_totals(connection, first, None if last == now else last)


def cut_by_day(start: float, end: float) -> Iterator[tuple[float, float]]:
    """The parts of a time span that lie in one day each; at least one."""
    midnight = (start // DAY_S + 1) * DAY_S
    while midnight < end:
        yield start, midnight
        start, midnight = midnight, midnight + DAY_S
    yield start, end


def due(now: float) -> ColumnElement[bool]:
    """Whether an hour's mark asks for new sums at this time."""
    age = now - changed_hours.c.hour * HOUR_S
    return changed_hours.c.time <= now - LAG * age


def merge(totals: defaultdict[Group, Totals], more: dict[Group, Totals]) -> None:
    for group, found in more.items():
        totals[group].merge(found)


def sum_hours(database: Database, oldest: float, stopping: Callable[[], bool]) -> None:
    """Sum all past hours that have no sums or have changed, the newest first, and delete sums that
    no report needs. oldest: reports start no earlier. Raises SQLAlchemyError."""
    done: set[int] = set()
    while not stopping() and sum_next(database, oldest, done):
        pass


def sum_next(database: Database, oldest: float, done: set[int]) -> bool:
    """Sum one hour that is not in `done`, and add it there; returns whether there may be more.

    If another instance summed the hour since this one's snapshot, its sums stay, because they may
    be newer.
    """
    with database.reading(TIMEOUT_S) as snapshot:
        if not alone(snapshot, HOURS_LOCK):
            return False
        eldest = snapshot.execute(select(func.min(impressions.c.time))).scalar()
        # The first hour loses its answers one by one, and no report needs it whole.
        first = hour_of(database.now() if eldest is None else max(oldest, eldest))
        drop_before(database, snapshot, first)
        known = set(snapshot.execute(select(figures.c.hour)).scalars())
        changed = select(changed_hours.c.hour).where(due(database.now()))
        past = range(first + 1, hour_of(database.now() - CLOSED_AFTER_S))
        wanted = {hour for hour in past if hour not in known}
        wanted.update(snapshot.execute(changed).scalars())
        hour = max(wanted.intersection(past) - done, default=None)
        if hour is None:
            return False
        done.add(hour)
        content = encode(read_totals(snapshot, hour * HOUR_S, (hour + 1) * HOUR_S))
        marks = select(changed_hours.c.number).where(changed_hours.c.hour == hour)
        keep(database, hour, content, snapshot.execute(marks).scalars().all(), hour in known)
    return True


def drop_before(database: Database, snapshot: Connection, first: int) -> None:
    """Delete sums and marks of hours up to `first`."""
    unneeded = [figures.c.hour <= first, changed_hours.c.hour <= first]
    found = or_(*(select(condition.left).where(condition).exists() for condition in unneeded))
    if snapshot.execute(select(found)).scalar():
        with database.writing() as connection:
            connection.execute(delete(figures).where(unneeded[0]))
            connection.execute(delete(changed_hours).where(unneeded[1]))


def keep(database: Database, hour: int, content: bytes, marks: Sequence[int], known: bool) -> None:
    """marks: the hour's that were there when it was summed. known: whether it had sums then."""
    with database.writing() as connection:
        removed = sum(
            connection.execute(
                delete(changed_hours).where(among(changed_hours.c.number, part, database.dialect))
            ).rowcount
            for part in chunks(marks)
        )
        replaced = connection.execute(delete(figures).where(figures.c.hour == hour)).rowcount
        if (removed, replaced) == (len(marks), known):
            connection.execute(insert(figures).values(hour=hour, totals=content))
        else:
            connection.rollback()


def encode(totals: dict[Group, Totals]) -> bytes:
    """As a compressed file of NumPy's, .npz. Few of the probability steps occur in an hour."""
    all_steps = [np.flatnonzero(one.by_step.any(axis=0)) for one in totals.values()]
    by_step = [one.by_step[:, steps] for one, steps in zip(totals.values(), all_steps, strict=True)]
    file = BytesIO()
    np.savez_compressed(
        file,
        models=np.array([model for model, _ in totals], dtype=np.str_),
        aliases=np.array([alias or "" for _, alias in totals], dtype=np.str_),
        counts=np.array([[one.answers, one.stories, one.with_feedback] for one in totals.values()]),
        moments=np.array([[astuple(each) for each in one.moments] for one in totals.values()]),
        lengths=np.array([len(steps) for steps in all_steps], dtype=np.int64),
        steps=np.concatenate([*all_steps, []]).astype(np.uint16),
        by_step=np.concatenate([*by_step, np.empty((3, 0))], axis=1),
    )
    return file.getvalue()


def decode(content: bytes) -> dict[Group, Totals]:
    """The opposite of `encode`."""
    with np.load(BytesIO(content)) as file:
        names = zip(file["models"].tolist(), file["aliases"].tolist(), strict=True)
        counts, moments = file["counts"].tolist(), file["moments"].tolist()
        ends = np.cumsum(file["lengths"])[:-1]
        steps = np.split(file["steps"], ends)
        by_step = np.split(file["by_step"], ends, axis=1)
    found: dict[Group, Totals] = {}
    for place, (model, alias) in enumerate(names):
        clicks, auc, calibration, *positions = (
            Moments(int(count), *sums) for count, *sums in moments[place]
        )
        answers, stories, with_feedback = counts[place]
        totals = Totals(answers, stories, with_feedback, clicks, positions, auc, calibration)
        totals.by_step[:, steps[place]] = by_step[place]
        found[model, alias or None] = totals
    return found
