"""Reading stories and readers from the store's tables."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select

from app.store.records import StoredStory
from app.store.statements import among, chunks
from app.store.tables import clicks, impressions, outcomes, stories

IMPRESSIONS_READ = 5
"""In how many of a reader's latest impressions the stories passed over are looked for."""
ANSWERS_READ = 50
"""Among how many of a reader's latest answers and impressions those are looked for."""
EARLIER_READ = 20
"""How many stories passed over, and how many clicked, are read, as in training (`prepare`)."""
CLICKS_READ = 2
"""How many clicks are read for each story wanted, since a reader may click a story twice."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a reader did lately.

    history: the stories clicked, oldest first, each once. clicked: the ids of the latest clicks.
    passed: the ids of stories that were shown lately and not clicked then. The two may name a
    story several times.
    """

    history: Sequence[StoredStory] = ()
    clicked: Sequence[str] = ()
    passed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReaderSummary:
    """What is known about a reader.

    history: the stories clicked, oldest first, each once. impressions, clicks: numbers of rows.
    first, last: seconds since 1970, or None if nothing is known.
    """

    history: list[StoredStory]
    impressions: int
    clicks: int
    first: float | None
    last: float | None


def read_stories(connection: Connection, ids: Iterable[str]) -> dict[str, StoredStory]:
    """The stored ones among these ids."""
    columns = stories.c.id, stories.c.title, stories.c.category, stories.c.published
    return {
        row.id: StoredStory(row.id, row.title, row.category, row.published)
        for part in chunks(sorted(ids))
        for row in connection.execute(
            select(*columns).where(among(stories.c.id, part, connection.dialect))
        )
    }


def read_history(
    connection: Connection, reader: bytes, limit: int, oldest: float
) -> list[StoredStory]:
    """The last `limit` stories that a reader clicked since `oldest`, oldest first, each once.

    Stories that are not stored are left out, since their titles are unknown.
    """
    rows = connection.execute(
        select(clicks.c.story, stories.c.title, stories.c.category, stories.c.published)
        .join(stories, stories.c.id == clicks.c.story)
        .where(clicks.c.reader == reader, clicks.c.time >= oldest)
        .order_by(clicks.c.time.desc(), clicks.c.number.desc())
        .limit(limit * CLICKS_READ)
    )
    newest: dict[str, StoredStory] = {}
    for row in rows:
        newest.setdefault(row.story, StoredStory(*row))
    return list(newest.values())[:limit][::-1]


def read_past(connection: Connection, reader: bytes, limit: int, oldest: float) -> Past:
    """limit: of stories in the history. Nothing before `oldest` counts."""
    clicked = connection.execute(
        select(clicks.c.story, clicks.c.time)
        .where(clicks.c.reader == reader, clicks.c.time >= oldest)
        .order_by(clicks.c.time.desc(), clicks.c.number.desc())
        .limit(limit)
    ).all()
    times: dict[str, list[float]] = {}
    for row in clicked:
        times.setdefault(row.story, []).append(row.time)
    return Past(
        read_history(connection, reader, limit, oldest),
        [row.story for row in clicked[:EARLIER_READ]],
        passed_over(read_impressions(connection, reader, oldest), times)[:EARLIER_READ],
    )


def read_impressions(
    connection: Connection, reader: bytes, oldest: float
) -> list[tuple[float, list[str]]]:
    """Times and stories of a reader's latest impressions, the latest first. An answer is one only
    once something was told of it, since it may never have been shown."""
    told = exists().where(outcomes.c.impression == impressions.c.number)
    rows = connection.execute(
        select(impressions.c.time, impressions.c.story_ids, impressions.c.model, told.label("told"))
        .where(impressions.c.reader == reader, impressions.c.time >= oldest)
        .order_by(impressions.c.time.desc(), impressions.c.number.desc())
        .limit(ANSWERS_READ)
    )
    shown = [row for row in rows if row.model is None or row.told]
    return [(row.time, json.loads(row.story_ids or "[]")) for row in shown[:IMPRESSIONS_READ]]


def passed_over(
    shown: Iterable[tuple[float, Sequence[str]]], clicked: Mapping[str, Sequence[float]]
) -> list[str]:
    """The stories of impressions, the latest first, that were not clicked before the next
    impression of the same story. clicked: the times of clicks by story."""
    found, until = [], dict[str, float]()
    for time, names in shown:
        for name in names:
            end = until.get(name, math.inf)
            if not any(time <= one < end for one in clicked.get(name, ())):
                found.append(name)
        until |= dict.fromkeys(names, time)
    return found


def read_reader(connection: Connection, reader: bytes, limit: int, oldest: float) -> ReaderSummary:
    """All that is kept about a reader since `oldest`, with a history of at most `limit` stories."""
    found = {}
    for table in (impressions, clicks):
        columns = func.count(), func.min(table.c.time), func.max(table.c.time)
        found[table.name] = connection.execute(
            select(*columns).where(table.c.reader == reader, table.c.time >= oldest)
        ).one()
    times = [time for row in found.values() for time in row[1:] if time is not None]
    return ReaderSummary(
        read_history(connection, reader, limit, oldest),
        found["impressions"][0],
        found["clicks"][0],
        min(times, default=None),
        max(times, default=None),
    )
