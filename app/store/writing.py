"""Writing batches to the store's tables. Every function works inside the caller's transaction.

Rows are written in the order of their ids, so that instances that write the same rows at once don't
wait for each other in a circle.
"""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from app.errors import ClientError, InvalidValue, NotFound
from app.store.changes import Changes, Told, write_changes
from app.store.hours import mark_hours
from app.store.records import (
    Answer,
    Feedback,
    Outcome,
    ReaderKey,
    StoredStory,
    to_json,
)
from app.store.statements import Row, among, chunks, execute, insert
from app.store.tables import clicks, impressions, outcomes, stories

REFRESH_S = 3600.0
"""A story that is sent again unchanged is written so seldom. Its `updated` may lag by as much."""
STORY_COLUMNS = ("id", "title", "category", "published", "updated")
OUTCOME_COLUMNS = ("impression", "position", "clicked", "learned")


def put_stories(
    connection: Connection, sent: Iterable[StoredStory], now: float, whole: bool = True
) -> int:
    """Store stories; of those with equal ids the last counts. Returns how many were written.

    whole: what is sent replaces the stored story; otherwise what was not sent stays.
    """
    by_id = {story.id: story for story in sent}
    statement = insert(stories, connection.dialect, STORY_COLUMNS)
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
        execute(connection, statement, rows)
    return len(rows)


def refresh_stories(connection: Connection, ids: Iterable[str], now: float) -> None:
    """Note that stories were shown, so that they are kept for longer."""
    dialect = connection.dialect
    for part in chunks(sorted(ids)):
        old = connection.execute(
            select(stories.c.id)
            .where(among(stories.c.id, part, dialect), stories.c.updated < now - REFRESH_S)
            .order_by(stories.c.id)
            .with_for_update(skip_locked=True)  # another instance is about to do the same
        ).scalars()
        if found := list(old):
            shown = among(stories.c.id, found, dialect)
            connection.execute(update(stories).where(shown).values(updated=now))


def keep_answers(
    connection: Connection, answers: Sequence[Answer], key: ReaderKey, now: float
) -> None:
    """Store answers with different ids. Each replaces an earlier impression of the same id."""
    dialect = connection.dialect
    ids = sorted(answer.id for answer in answers)
    times = [answer.time for answer in answers]
    for part in chunks(ids):
        earlier = delete(impressions).where(among(impressions.c.id, part, dialect))
        times += connection.execute(earlier.returning(impressions.c.time)).scalars()
    mark_hours(connection, times, now)
    remembered = [answer.remembered for answer in answers if answer.remembered]
    carried = [
        story
        for one in remembered
        for story in (*one.shown, *(one.history or ()))
        if story.id not in one.named
    ]
    put_stories(connection, carried, now, whole=False)
    refresh_stories(connection, {name for one in remembered for name in one.named}, now)
    rows = [answer_row(answer, key) for answer in sorted(answers, key=lambda one: one.id)]
    execute(connection, insert(impressions, dialect, [*rows[0]]).on_conflict_do_nothing(), rows)


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
        "story_ids": None if answer.story_ids is None else to_json(answer.story_ids),
        "history": None,
    }
    carried = answer.remembered
    if carried is not None:
        row["reader"] = None if carried.reader_id is None else key.hash(carried.reader_id)
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
                among(impressions.c.id, part, connection.dialect),
                impressions.c.time >= oldest,
                impressions.c.model.is_not(None),
            )
        ):
            found[row.id] = row
    results: list[str | ClientError] = []
    told: dict[tuple[int, int], tuple[Outcome, Any]] = {}
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
        outcome = Outcome(item.clicked, item.sender)
        told[answer.number, indices.index(item.index)] = outcome, answer
        results.append(str(answer.model))
    changes = Changes()
    put_outcomes(connection, {place: one for place, (one, _) in told.items()}, now, changes)
    write_changes(connection, changes.values(), now)
    mark_hours(connection, (answer.time for _, answer in told.values()), now, void=False)
    put_clicks_of_feedback(connection, told, now)
    return results


def put_outcomes(
    connection: Connection, told: Mapping[tuple[int, int], Outcome], now: float, changes: Changes
) -> None:
    """told: by impression's number and position. changes: get what counts from now on, with ranked
    answers that had no feedback before."""
    if not told:
        return
    senders = {number: outcome.sender for (number, _), outcome in told.items()}
    refuted = sorted({number for (number, _), outcome in told.items() if not outcome.clicked})
    were_clicked = clicked_so_far(connection, refuted)
    for number in first_told(connection, sorted(senders)):
        changes[senders[number]].shown.append(number)
    statement = insert(outcomes, connection.dialect, OUTCOME_COLUMNS)
    statement = statement.on_conflict_do_update(
        index_elements=[outcomes.c.impression, outcomes.c.position],
        set_={"clicked": statement.excluded.clicked, "learned": statement.excluded.learned},
        where=outcomes.c.clicked != statement.excluded.clicked,
    )
    told_now = statement.returning(outcomes.c.impression, outcomes.c.position, outcomes.c.clicked)
    rows = [
        {"impression": number, "position": position, "clicked": told[place].clicked, "learned": now}
        for place in sorted(told)
        for number, position in [place]
    ]
    for row in execute(connection, told_now, rows):
        sender = told[row.impression, row.position].sender
        back = not row.clicked and (row.impression, row.position) in were_clicked
        changes[sender].told.append(Told(row.impression, row.position, row.clicked, back))


def clicked_so_far(connection: Connection, numbers: Sequence[int]) -> set[tuple[int, int]]:
    """Numbers and positions of what was clicked in these impressions."""
    columns = outcomes.c.impression, outcomes.c.position
    return {
        (row.impression, row.position)
        for part in chunks(numbers)
        for row in connection.execute(
            select(*columns).where(
                among(outcomes.c.impression, part, connection.dialect), outcomes.c.clicked
            )
        )
    }


def first_told(connection: Connection, numbers: Sequence[int]) -> list[int]:
    """Which of these impressions are ranked answers of which nothing is known yet. If two instances
    get the first feedback at once, both find so; to count them once is the readers' task."""
    known = exists().where(outcomes.c.impression == impressions.c.number)
    ranked = impressions.c.model.is_not(None), impressions.c.ranked, ~known
    return [
        number
        for part in chunks(numbers)
        for number in connection.execute(
            select(impressions.c.number)
            .where(among(impressions.c.number, part, connection.dialect), *ranked)
            .order_by(impressions.c.number)
        ).scalars()
    ]


def put_clicks_of_feedback(
    connection: Connection, told: dict[tuple[int, int], tuple[Outcome, Any]], now: float
) -> None:
    """Keep feedback as clicks of the reader, for answers that remember their reader; feedback that
    was taken back removes them."""
    rows, gone = [], []
    for (number, position), (outcome, row) in sorted(told.items(), key=lambda one: one[0]):
        if row.reader is None or row.story_ids is None:
            continue
        name = feedback_click_id(number, position)
        if outcome.clicked:
            story = read_ids(row.story_ids)[position]
            rows.append(
                {"id": name, "time": now, "reader": row.reader, "story": story, "awaits": None}
            )
        else:
            gone.append(name)
    if rows:
        statement = insert(clicks, connection.dialect, [*rows[0]])
        execute(connection, statement.on_conflict_do_nothing(), rows)
    for part in chunks(gone):
        connection.execute(delete(clicks).where(among(clicks.c.id, part, connection.dialect)))


def feedback_click_id(number: int, position: int) -> str:
    """No event can have such an id: theirs hold no control characters."""
    return f"\x1f{number}:{position}"


def read_ids(text: str) -> list[str]:
    found: list[str] = json.loads(text)
    return found
