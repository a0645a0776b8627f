"""Storing the events that sites send, inside the caller's transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, select

from app.store.changes import Changes, write_changes
from app.store.hours import mark_hours
from app.store.records import (
    Accepted,
    ClickEvent,
    ImpressionEvent,
    Outcome,
    ReaderKey,
    to_json,
)
from app.store.statements import Row, among, chunks, execute, insert
from app.store.tables import clicks, impressions
from app.store.writing import put_outcomes, read_ids, refresh_stories


def add_events(
    connection: Connection,
    shown: Sequence[ImpressionEvent],
    clicked: Sequence[ClickEvent],
    key: ReaderKey,
    now: float,
    sender: str | None = None,
) -> Accepted:
    """Store events whose ids are new, impressions before clicks. sender: the name of the API key
    that reports them."""
    changes = Changes()
    new_impressions = add_impressions(connection, shown, key)
    changes[sender].shown += new_impressions.values()
    refresh_stories(connection, {name for event in shown for name in event.stories}, now)
    join_waiting(connection, new_impressions, now, changes)
    new_clicks = add_clicks(connection, clicked, key, now, changes, sender)
    write_changes(connection, changes.values(), now)
    new = len(new_impressions) + len(new_clicks)
    return Accepted(len(new_impressions), len(new_clicks), len(shown) + len(clicked) - new)


def insert_new(connection: Connection, table: Table, rows: dict[str, Row]) -> dict[str, int]:
    """Insert the rows whose ids the table does not have yet. Returns their numbers by id."""
    ordered = [rows[name] for name in sorted(rows)]
    if not ordered:
        return {}
    statement = insert(table, connection.dialect, [*ordered[0]])
    new = statement.on_conflict_do_nothing().returning(table.c.id, table.c.number)
    parts = (execute(connection, new, part) for part in chunks(ordered))
    return {row.id: row.number for part in parts for row in part}


def add_impressions(
    connection: Connection, shown: Sequence[ImpressionEvent], key: ReaderKey
) -> dict[str, int]:
    rows: dict[str, Row] = {}
    for event in shown:
        rows.setdefault(
            event.id,
            {
                "id": event.id,
                "time": event.time,
                "ranked": True,
                "stories": len(event.stories),
                "reader": None if event.reader_id is None else key.hash(event.reader_id),
                "story_ids": to_json(event.stories),
            },
        )
    return insert_new(connection, impressions, rows)


def add_clicks(
    connection: Connection,
    clicked: Sequence[ClickEvent],
    key: ReaderKey,
    now: float,
    changes: Changes,
    sender: str | None,
) -> dict[str, int]:
    """changes: get what counts from now on."""
    events: dict[str, ClickEvent] = {}
    for event in clicked:
        events.setdefault(event.id, event)
    known = find_shown(
        connection, {event.impression_id for event in clicked if event.impression_id}
    )
    rows: dict[str, Row] = {
        event.id: {
            "id": event.id,
            "time": event.time,
            "reader": None if event.reader_id is None else key.hash(event.reader_id),
            "story": event.story,
            "awaits": None if event.impression_id in known else event.impression_id,
            "sender": sender if event.impression_id not in known and event.impression_id else None,
        }
        for event in events.values()
    }
    new = insert_new(connection, clicks, rows)
    found = [
        Clicked(number, events[name].impression_id, events[name].story, sender)
        for name, number in new.items()
    ]
    put_clicked(connection, known, found, now, changes)
    return new


class Clicked(NamedTuple):
    """A stored click: its number, its impression's id, the story, and who reported it."""

    number: int
    impression_id: str | None
    story: str
    sender: str | None


class Shown(NamedTuple):
    """An impression. stories: ids in the order shown, none if it kept none."""

    number: int
    time: float
    stories: list[str]


def find_shown(connection: Connection, ids: Iterable[str]) -> dict[str, Shown]:
    """The stored ones among these impressions, by id."""
    found = {}
    row = impressions.c
    for part in chunks(sorted(ids)):
        for name, number, time, text in connection.execute(
            select(row.id, row.number, row.time, row.story_ids).where(
                among(row.id, part, connection.dialect)
            )
        ):
            found[name] = Shown(number, time, read_ids(text) if text else [])
    return found


def put_clicked(
    connection: Connection,
    known: Mapping[str, Shown],
    clicked: Iterable[Clicked],
    now: float,
    changes: Changes,
) -> None:
    """Write the outcomes that clicks are whose impressions have shown their stories. changes: get
    what counts from now on."""
    told: dict[tuple[int, int], Outcome] = {}
    times = []
    for number, name, story, sender in clicked:
        shown = known.get(name or "")
        if shown is not None and story in shown.stories:
            told[shown.number, shown.stories.index(story)] = Outcome(True, sender)
            times.append(shown.time)
        elif shown is not None or name is None:
            changes[sender].clicks.append(number)
    put_outcomes(connection, told, now, changes)
    mark_hours(connection, times, now, void=False)


def join_waiting(
    connection: Connection, arrived: Iterable[str], now: float, changes: Changes
) -> None:
    """Count clicks that arrived before their impressions. changes: get what counts from now on."""
    for part in chunks(sorted(arrived)):
        waiting = connection.execute(
            select(
                *(clicks.c.number, clicks.c.awaits, clicks.c.story, clicks.c.sender, clicks.c.id)
            ).where(among(clicks.c.awaits, part, connection.dialect))
        ).all()
        if not waiting:
            continue
        known = find_shown(connection, {row.awaits for row in waiting})
        found = [Clicked(row.number, row.awaits, row.story, row.sender) for row in waiting]
        put_clicked(connection, known, found, now, changes)
        connection.execute(
            clicks.update()
            .where(among(clicks.c.id, [row.id for row in waiting], connection.dialect))
            .values(awaits=None, sender=None)
        )


def add_waiting(connection: Connection, now: float) -> None:
    """Count clicks whose impressions arrived at the same time through another instance."""
    arrived = connection.execute(
        select(clicks.c.awaits)
        .join(impressions, impressions.c.id == clicks.c.awaits)
        .where(clicks.c.awaits.is_not(None))  # or no index of few rows is used
    ).scalars()
    changes = Changes()
    join_waiting(connection, {name for name in arrived if name}, now, changes)
    write_changes(connection, changes.values(), now)
