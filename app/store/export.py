"""What was shown and clicked, read in the order of time to learn from."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from app.store.records import StoredStory
from app.store.statements import among, chunks
from app.store.tables import clicks, erasures, impressions, outcomes, stories

AT_ONCE = 5000
"""How many impressions are read at a time."""
STATEMENT_S = 600.0
"""How long a statement may take: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Stories that a reader was shown at once.

    id: of the answer or event. time: seconds since 1970. model, alias: what ranked them; None for
    an event. reader: the keyed hash, None for an anonymous one. stories: ids in the order shown.
    clicked: for each of them. history: ids of what the reader had clicked before, oldest first.
    """

    id: str
    time: float
    model: str | None
    alias: str | None
    reader: bytes | None
    stories: list[str]
    clicked: list[bool]
    history: list[str]


@dataclass(frozen=True, slots=True)
class Clicks:
    """A reader's clicks in the order of time."""

    times: list[float]
    stories: list[str]

    def before(self, time: float, limit: int) -> list[str]:
        """The last `limit` stories clicked strictly before, oldest first, each once."""
        newest = dict.fromkeys(reversed(self.stories[: bisect_left(self.times, time)]))
        return list(newest)[:limit][::-1]

    def within(self, story: str, start: float, end: float) -> bool:
        """Whether the story was clicked between two times, both included."""
        pairs = zip(self.times, self.stories, strict=True)
        return any(one == story and start <= time <= end for time, one in pairs)


NONE = Clicks([], [])


def read_all_stories(connection: Connection) -> Iterator[StoredStory]:
    """In the order of their ids."""
    columns = stories.c.id, stories.c.title, stories.c.category, stories.c.published
    for row in connection.execute(select(*columns).order_by(stories.c.id)):
        yield StoredStory(*row)


def read_shown(
    connection: Connection, start: float, end: float, window_s: float, history: int
) -> Iterator[list[Shown]]:
    """All lists shown from `start` until before `end`, in the order of time, AT_ONCE or fewer.

    window_s: clicks that came later after their impression don't count. history: how many clicked
    stories to give. What an erased reader did is left out, and so is an answer of which nothing was
    reported: it may never have been shown.
    """
    last = (start, 0)
    while rows := list(read_rows(connection, last, end)):
        last = (rows[-1].time, rows[-1].number)
        yield list(make_shown(connection, rows, window_s, history))


def read_rows(connection: Connection, after: tuple[float, int], end: float) -> Sequence[Row[Any]]:
    place = tuple_(impressions.c.time, impressions.c.number)
    return connection.execute(
        select(impressions)
        .where(
            place > tuple_(*after),
            impressions.c.time < end,
            impressions.c.ranked,
            impressions.c.story_ids.is_not(None),
        )
        .order_by(impressions.c.time, impressions.c.number)
        .limit(AT_ONCE)
    ).all()


def make_shown(
    connection: Connection, rows: Sequence[Row[Any]], window_s: float, history: int
) -> Iterator[Shown]:
    told = read_outcomes(connection, [row.number for row in rows])
    readers = sorted({row.reader for row in rows if row.reader is not None})
    erased = read_erased(connection, readers)
    known = read_clicks(connection, readers, erased, rows[-1].time + window_s)
    for row in rows:
        outcome = told.get(row.number, {})
        if (row.model is not None and not outcome) or row.time <= erased.get(row.reader, 0.0):
            continue
        past = known.get(row.reader, NONE)
        names = json.loads(row.story_ids)
        clicked = [False] * len(names)
        for position, (was_clicked, learned) in outcome.items():
            late = row.model is not None and learned > row.time + window_s
            if was_clicked and position < len(names):
                in_time = past.within(names[position], row.time, row.time + window_s)
                clicked[position] = in_time or not late
        sent = json.loads(row.history) if row.history else []
        yield Shown(
            *(row.id, row.time, row.model, row.alias, row.reader, names, clicked),
            sent[-history:] or past.before(row.time, history),
        )


def read_outcomes(
    connection: Connection, numbers: Sequence[int]
) -> dict[int, dict[int, tuple[bool, float]]]:
    """Whether a story was clicked and when that was learned, by impression and position."""
    found: dict[int, dict[int, tuple[bool, float]]] = {}
    for part in chunks(numbers):
        where = among(outcomes.c.impression, part, connection.dialect)
        for row in connection.execute(select(outcomes).where(where)):
            found.setdefault(row.impression, {})[row.position] = (row.clicked, row.learned)
    return found


def read_erased(connection: Connection, readers: Sequence[bytes]) -> dict[bytes | None, float]:
    """Until when what these readers did is erased."""
    return {
        row.reader: row.time
        for part in chunks(readers)
        for row in connection.execute(
            select(erasures).where(among(erasures.c.reader, part, connection.dialect))
        )
    }


def read_clicks(
    connection: Connection,
    readers: Sequence[bytes],
    erased: Mapping[bytes | None, float],
    end: float,
) -> dict[bytes | None, Clicks]:
    """These readers' clicks until `end`, without what is erased."""
    found: dict[bytes | None, Clicks] = {}
    for part in chunks(readers):
        statement = (
            select(clicks.c.reader, clicks.c.time, clicks.c.story)
            .where(among(clicks.c.reader, part, connection.dialect), clicks.c.time <= end)
            .order_by(clicks.c.time, clicks.c.number)
        )
        for row in connection.execute(statement):
            if row.time <= erased.get(row.reader, 0.0):
                continue
            of_reader = found.setdefault(row.reader, Clicks([], []))
            of_reader.times.append(row.time)
            of_reader.stories.append(row.story)
    return found
