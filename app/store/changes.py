"""What each transaction adds to what readers saw and clicked, so that every instance can count it.

A transaction that stores events or feedback also writes one row of `changes`, which names the rows
that count from now on. Instances read these rows in the order of their numbers, each once.

On PostgreSQL a transaction may commit after others with higher numbers. So a number that is missing
is a gap, which is looked for again until all transactions that were running when it was noticed
have ended. On SQLite there are no gaps, since one transaction writes at a time.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, Text, cast, func, or_, select

from app.store.statements import execute, insert
from app.store.tables import changes

CHANGES_KEPT_S = 900.0
"""How many seconds changes are kept. An instance that was away for longer begins with the snapshot
of the live figures, which has counted them."""
MAX_CHANGES = 500
"""How many changes are read at once."""
MAX_GAPS = 500
"""How many gaps are looked for; the oldest are given up first."""


class Told(NamedTuple):
    """What became known of a story of an impression. position: in the order shown, from 0.
    taken_back: it was clicked according to what was known before."""

    impression: int
    position: int
    clicked: bool
    taken_back: bool = False


@dataclass(slots=True)
class Change:
    """The numbers of rows that count from now on.

    shown: impressions whose stories were shown: events, and ranked answers with their first
    feedback. told: new or changed outcomes. clicks: clicks that belong to no impression. sender:
    the name of the API key that reported all this. time: when the store got it.
    """

    shown: list[int] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    clicks: list[int] = field(default_factory=list)
    sender: str | None = None
    time: float = 0.0


class Changes(dict[str | None, Change]):
    """What a transaction changes, by sender."""

    def __missing__(self, sender: str | None) -> Change:
        return self.setdefault(sender, Change(sender=sender))


class Gap(NamedTuple):
    """Numbers from `first` to `last` that had not been committed when transactions from `ended` on
    had not begun."""

    first: int
    last: int
    ended: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """All changes up to `number` have been read, but those in gaps."""

    number: int = 0
    gaps: Sequence[Gap] = ()


def write_changes(connection: Connection, found: Iterable[Change], now: float) -> None:
    """Store changes, but those by which nothing counts from now on."""
    contents = [
        [one.shown, one.told, one.clicks, one.sender]
        for one in found
        if one.shown or one.told or one.clicks
    ]
    rows = [{"time": now, "content": json.dumps(one, separators=(",", ":"))} for one in contents]
    if rows:
        execute(connection, insert(changes, connection.dialect, [*rows[0]]), rows)


def read_changes(connection: Connection, cursor: Cursor) -> tuple[list[Change], Cursor]:
    """The next changes, at most MAX_CHANGES besides those in gaps, and the cursor behind them.

    connection: a snapshot.
    """
    running, next_one = transactions(connection)
    columns = changes.c.number, changes.c.time, changes.c.content
    late = []
    if cursor.gaps:
        within = [changes.c.number.between(gap.first, gap.last) for gap in cursor.gaps]
        late = list(connection.execute(select(*columns).where(or_(*within))))
    new = connection.execute(
        select(*columns)
        .where(changes.c.number > cursor.number)
        .order_by(changes.c.number)
        .limit(MAX_CHANGES)
    ).all()
    open_gaps = [gap for gap in cursor.gaps if gap.ended > running]
    gaps = without(open_gaps, sorted(row.number for row in late))
    last = cursor.number
    for number, *_ in new:
        if number > last + 1:
            gaps.append(Gap(last + 1, number - 1, next_one))
        last = number
    found = [parse_change(content, at) for _, at, content in sorted([*late, *new])]
    return found, Cursor(last, gaps[-MAX_GAPS:])


def transactions(connection: Connection) -> tuple[int, int]:
    """PostgreSQL's numbers of the oldest running transaction, and of the next to begin."""
    if connection.dialect.name == "sqlite":
        return 0, 0
    now = func.pg_current_snapshot()
    numbers = cast(func.pg_snapshot_xmin(now), Text), cast(func.pg_snapshot_xmax(now), Text)
    first, end = connection.execute(select(*numbers)).one()
    return int(first), int(end)


def without(gaps: Iterable[Gap], found: Sequence[int]) -> list[Gap]:
    """What is left of gaps once these numbers, in rising order, have been found."""
    left = []
    for gap in gaps:
        first = gap.first
        for number in found:
            if first <= number <= gap.last:
                left.append(Gap(first, number - 1, gap.ended))
                first = number + 1
        left.append(Gap(first, gap.last, gap.ended))
    return [gap for gap in left if gap.first <= gap.last]


def parse_change(content: str, time: float) -> Change:
    shown, told, clicks, *sender = json.loads(content)  # earlier versions named no sender
    name = sender[0] if sender else None
    return Change(shown, [Told(*one) for one in told], clicks, name, time)
