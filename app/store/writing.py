"""Writing batches to the store's tables. Every function works inside the caller's transaction.

Rows are written in the order of their ids, so that instances that write the same rows at once don't
wait for each other in a circle.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, Insert, Table, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.errors import ClientError, InvalidValue, NotFound
from app.store.records import (
    Accepted,
    Answer,
    ClickEvent,
    Feedback,
    ImpressionEvent,
    ReaderKey,
    StoredStory,
    to_json,
)
from app.store.tables import clicks, impressions, outcomes, stories

Row = dict[str, Any]
Item = TypeVar("Item")
CHUNK_ROWS = 1000
"""How many ids one statement names; both databases limit a statement's parameters."""
REFRESH_S = 3600.0
"""A story that is sent again unchanged is written so seldom. Its `updated` may lag by as much."""


def insert(table: Table, dialect: Dialect) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that can say what happens on a conflict."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + CHUNK_ROWS] for start in range(0, len(items), CHUNK_ROWS))


def put_stories(
    connection: Connection, sent: Iterable[StoredStory], now: float, whole: bool = True
) -> int:
    """Store stories; of those with equal ids the last counts. Returns how many were written.

    whole: what is sent replaces the stored story; otherwise what was not sent stays.
    """
    by_id = {story.id: story for story in sent}
    statement = insert(stories, connection.dialect)
    new = statement.excluded
    values = {
        "title": new.title,
        "category": new.category if whole else func.coalesce(new.category, stories.c.category),
        "published": new.published if whole else func.coalesce(new.published, stories.c.published),
        "updated": new.updated,
    }
    changed = [
        value.is_distinct_from(stories.c[name])
        for name, value in values.items()
        if name != "updated"
    ]
    statement = statement.on_conflict_do_update(
        index_elements=[stories.c.id],
        set_=values,
        where=or_(*changed, stories.c.updated < new.updated - REFRESH_S),
    )
    rows = [
        {
            "id": story.id,
            "title": story.title,
            "category": story.category,
            "published": story.published,
            "updated": now,
        }
        for _, story in sorted(by_id.items())
    ]
    if rows:
        connection.execute(statement, rows)
    return len(rows)


def refresh_stories(connection: Connection, ids: Iterable[str], now: float) -> None:
    """Note that stories were shown, so that they are kept for longer."""
    for part in chunks(sorted(ids)):
        old = connection.execute(
            select(stories.c.id)
            .where(stories.c.id.in_(part), stories.c.updated < now - REFRESH_S)
            .order_by(stories.c.id)
            .with_for_update(skip_locked=True)  # another instance is about to do the same
        ).scalars()
        if found := list(old):
            connection.execute(update(stories).where(stories.c.id.in_(found)).values(updated=now))


def keep_answers(
    connection: Connection, answers: Sequence[Answer], key: ReaderKey, now: float
) -> None:
    """Store answers with different ids. Each replaces an earlier impression of the same id."""
    ids = sorted(answer.id for answer in answers)
    for part in chunks(ids):
        connection.execute(delete(impressions).where(impressions.c.id.in_(part)))
    remembered = [answer.remembered for answer in answers if answer.remembered]
    carried = [
        story
        for one in remembered
        for story in (*one.shown, *(one.history or ()))
        if story.id not in one.named
    ]
    put_stories(connection, carried, now, whole=False)
    refresh_stories(connection, {name for one in remembered for name in one.named}, now)
    statement = insert(impressions, connection.dialect).on_conflict_do_nothing()
    rows = [answer_row(answer, key) for answer in sorted(answers, key=lambda one: one.id)]
    connection.execute(statement, rows)


def answer_row(answer: Answer, key: ReaderKey) -> Row:
    row: Row = {
        "id": answer.id,
        "time": answer.time,
        "model": answer.model,
        "alias": answer.alias,
        "ranked": answer.ranked,
        "stories": answer.stories,
        "indices": answer.indices,
        "probabilities": answer.probabilities,
        "reader": None,
        "story_ids": None,
        "history": None,
    }
    carried = answer.remembered
    if carried is not None:
        row["reader"] = None if carried.reader_id is None else key.hash(carried.reader_id)
        row["story_ids"] = to_json([story.id for story in carried.shown])
        if carried.history is not None:
            row["history"] = to_json([story.id for story in carried.history])
    return row


def record_feedback(
    connection: Connection, items: Sequence[Feedback], oldest: float, now: float
) -> list[str | ClientError]:
    """Store feedback; the last for a story counts. Returns for each item the answer's model, or the
    error if no answer since `oldest` or no such story is kept."""
    found: dict[str, Any] = {}
    for part in chunks(sorted({item.answer_id for item in items})):
        for row in connection.execute(
            select(impressions).where(
                impressions.c.id.in_(part),
                impressions.c.time >= oldest,
                impressions.c.model.is_not(None),
            )
        ):
            found[row.id] = row
    results: list[str | ClientError] = []
    told: dict[tuple[int, int], tuple[bool, Any]] = {}
    for item in items:
        answer = found.get(item.answer_id)
        if answer is None:
            results.append(
                NotFound(f"id: no answer {item.answer_id!r} is kept; it may be too old", "id")
            )
            continue
        indices = array("H", answer.indices)
        if item.index not in indices:
            results.append(InvalidValue(f"index: the answer has no story {item.index}", "index"))
            continue
        told[answer.number, indices.index(item.index)] = item.clicked, answer
        results.append(str(answer.model))
    put_outcomes(connection, {place: clicked for place, (clicked, _) in told.items()}, now)
    put_clicks_of_feedback(connection, told, now)
    return results


def put_outcomes(connection: Connection, told: dict[tuple[int, int], bool], now: float) -> None:
    """told: (impression's number, position) → whether it was clicked."""
    if not told:
        return
    statement = insert(outcomes, connection.dialect)
    statement = statement.on_conflict_do_update(
        index_elements=[outcomes.c.impression, outcomes.c.position],
        set_={"clicked": statement.excluded.clicked, "learned": statement.excluded.learned},
        where=outcomes.c.clicked != statement.excluded.clicked,
    )
    connection.execute(
        statement,
        [
            {"impression": number, "position": position, "clicked": clicked, "learned": now}
            for (number, position), clicked in sorted(told.items())
        ],
    )


def put_clicks_of_feedback(
    connection: Connection, told: dict[tuple[int, int], tuple[bool, Any]], now: float
) -> None:
    """Keep feedback as clicks of the reader, for answers that remember their reader; feedback that
    was taken back removes them."""
    rows, gone = [], []
    for (number, position), (clicked, row) in sorted(told.items(), key=lambda one: one[0]):
        if row.reader is None or row.story_ids is None:
            continue
        name = feedback_click_id(number, position)
        if clicked:
            story = read_ids(row.story_ids)[position]
            rows.append(
                {"id": name, "time": now, "reader": row.reader, "story": story, "awaits": None}
            )
        else:
            gone.append(name)
    if rows:
        connection.execute(insert(clicks, connection.dialect).on_conflict_do_nothing(), rows)
    for part in chunks(gone):
        connection.execute(delete(clicks).where(clicks.c.id.in_(part)))


def feedback_click_id(number: int, position: int) -> str:
    """No event can have such an id: theirs hold no control characters."""
    return f"\x1f{number}:{position}"


def read_ids(text: str) -> list[str]:
    found: list[str] = json.loads(text)
    return found


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
    statement: Insert = (
        insert(table, connection.dialect).on_conflict_do_nothing().returning(table.c.id)
    )
    ordered = [rows[name] for name in sorted(rows)]
    return {
        name for part in chunks(ordered) for name in connection.execute(statement, part).scalars()
    }


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
    told = {}
    for name in new:
        event = events[name]
        number, ids = known.get(event.impression_id or "", (0, []))
        if event.story in ids:
            told[number, ids.index(event.story)] = True
    put_outcomes(connection, told, now)
    return new


def find_shown(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[int, list[str]]]:
    """Impression's id → its number and its stories' ids, which are empty if it kept none."""
    found = {}
    columns = impressions.c.id, impressions.c.number, impressions.c.story_ids
    for part in chunks(sorted(ids)):
        for name, number, text in connection.execute(
            select(*columns).where(impressions.c.id.in_(part))
        ):
            found[name] = number, read_ids(text) if text else []
    return found


def join_waiting(connection: Connection, arrived: Iterable[str], now: float) -> None:
    """Count clicks that arrived before their impressions."""
    for part in chunks(sorted(arrived)):
        waiting = connection.execute(
            select(clicks.c.id, clicks.c.awaits, clicks.c.story).where(clicks.c.awaits.in_(part))
        ).all()
        if not waiting:
            continue
        known = find_shown(connection, {row.awaits for row in waiting})
        told = {}
        for row in waiting:
            number, ids = known.get(row.awaits, (0, []))
            if row.story in ids:
                told[number, ids.index(row.story)] = True
        put_outcomes(connection, told, now)
        connection.execute(
            clicks.update().where(clicks.c.id.in_([row.id for row in waiting])).values(awaits=None)
        )


def add_waiting(connection: Connection, now: float) -> None:
    """Count clicks whose impressions arrived at the same time through another instance."""
    arrived = connection.execute(
        select(clicks.c.awaits).join(impressions, impressions.c.id == clicks.c.awaits)
    ).scalars()
    join_waiting(connection, {name for name in arrived if name}, now)
