"""Storing the events that sites send, inside the caller's transaction."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, select

from app.store.hours import mark_hours
from app.store.records import Accepted, ClickEvent, ImpressionEvent, ReaderKey, to_json
from app.store.statements import Row, among, chunks, execute, insert
from app.store.tables import clicks, impressions
from app.store.writing import put_outcomes, read_ids, refresh_stories


def add_events(
    connection: Connection,
    shown: Sequence[ImpressionEvent],
    clicked: Sequence[ClickEvent],
    key: ReaderKey,
    now: float,
) -> Accepted:
    """Store events whose ids are new, impressions before clicks."""
    new_impressions = add_impressions(connection, shown, key)
    refresh_stories(connection, {name for event in shown for name in event.stories}, now)
    join_waiting(connection, new_impressions, now)
    new_clicks = add_clicks(connection, clicked, key, now)
    new = len(new_impressions) + len(new_clicks)
    return Accepted(len(new_impressions), len(new_clicks), len(shown) + len(clicked) - new)


def insert_new(connection: Connection, table: Table, rows: dict[str, Row]) -> set[str]:
    """Insert the rows whose ids the table does not have yet. Returns these ids."""
    ordered = [rows[name] for name in sorted(rows)]
    if not ordered:
        return set()
    statement = insert(table, connection.dialect, [*ordered[0]])
    new = statement.on_conflict_do_nothing().returning(table.c.id)
    return {name for part in chunks(ordered) for name in execute(connection, new, part).scalars()}


def add_impressions(
    connection: Connection, shown: Sequence[ImpressionEvent], key: ReaderKey
) -> set[str]:
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
    connection: Connection, clicked: Sequence[ClickEvent], key: ReaderKey, now: float
) -> set[str]:
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
        }
        for event in events.values()
    }
    new = insert_new(connection, clicks, rows)
    clicked_in = ((events[name].impression_id or "", events[name].story) for name in new)
    put_clicked(connection, known, clicked_in, now)
    return new


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
    known: dict[str, Shown],
    clicked: Iterable[tuple[str, str]],
    now: float,
) -> None:
    """Write outcomes. clicked: ids of impressions and of stories, which count if they were shown
    there."""
    found = [(known[name], story) for name, story in clicked if name in known]
    told = [(shown, shown.stories.index(story)) for shown, story in found if story in shown.stories]
    put_outcomes(connection, {(shown.number, place): True for shown, place in told}, now)
    mark_hours(connection, (shown.time for shown, _ in told), now, void=False)


def join_waiting(connection: Connection, arrived: Iterable[str], now: float) -> None:
    """Count clicks that arrived before their impressions."""
    for part in chunks(sorted(arrived)):
        waiting = connection.execute(
            select(clicks.c.id, clicks.c.awaits, clicks.c.story).where(
                among(clicks.c.awaits, part, connection.dialect)
            )
        ).all()
        if not waiting:
            continue
        known = find_shown(connection, {row.awaits for row in waiting})
        put_clicked(connection, known, ((row.awaits, row.story) for row in waiting), now)
        connection.execute(
            clicks.update()
            .where(among(clicks.c.id, [row.id for row in waiting], connection.dialect))
            .values(awaits=None)
        )


def add_waiting(connection: Connection, now: float) -> None:
    """Count clicks whose impressions arrived at the same time through another instance."""
    arrived = connection.execute(
        select(clicks.c.awaits)
        .join(impressions, impressions.c.id == clicks.c.awaits)
        .where(clicks.c.awaits.is_not(None))  # or no index of few rows is used
    ).scalars()
    join_waiting(connection, {name for name in arrived if name}, now)
