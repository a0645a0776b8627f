"""What the live figures read from the store, and the snapshot of them that it keeps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from app.store.changes import Cursor, Gap
from app.store.statements import among, chunks, execute, insert
from app.store.tables import clicks, impressions, live_figures, stories
from app.store.writing import read_ids

KEY = 1


@dataclass(frozen=True, slots=True)
class ShownStories:
    """An impression whose stories have ids. ranked: they were shown as one list, in this order."""

    number: int
    time: float
    ranked: bool
    reader: bytes | None
    stories: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClickedStory:
    number: int
    time: float
    reader: bytes | None
    story: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts after the changes up to a cursor. newest: when the newest event happened."""

    cursor: Cursor
    newest: float | None
    counts: bytes


def read_shown(connection: Connection, numbers: Sequence[int]) -> dict[int, ShownStories]:
    """Those of these impressions that are still there and have ids of stories, by number."""
    table = impressions.c
    columns = table.number, table.time, table.ranked, table.reader, table.story_ids
    found = {}
    for part in chunks(sorted(set(numbers))):
        wanted = among(table.number, part, connection.dialect), table.story_ids.is_not(None)
        for number, time, ranked, reader, ids in connection.execute(
            select(*columns).where(*wanted)
        ):
            found[number] = ShownStories(number, time, ranked, reader, read_ids(ids))
    return found


def read_clicked(connection: Connection, numbers: Sequence[int]) -> dict[int, ClickedStory]:
    """Those of these clicks that are still there, by number."""
    columns = clicks.c.number, clicks.c.time, clicks.c.reader, clicks.c.story
    return {
        row.number: ClickedStory(*row)
        for part in chunks(sorted(set(numbers)))
        for row in connection.execute(
            select(*columns).where(among(clicks.c.number, part, connection.dialect))
        )
    }


def read_categories(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """The categories of those of these stories that are stored."""
    found: dict[str, str | None] = {}
    columns = stories.c.id, stories.c.category
    for part in chunks(sorted(ids)):
        wanted = among(stories.c.id, part, connection.dialect)
        found.update(connection.execute(select(*columns).where(wanted)).all())
    return found


def read_snapshot(connection: Connection) -> Snapshot | None:
    table = live_figures.c
    found = connection.execute(
        select(table.number, table.gaps, table.newest, table.counts).where(table.key == KEY)
    ).one_or_none()
    if found is None:
        return None
    gaps = [Gap(*one) for one in json.loads(found.gaps)]
    return Snapshot(Cursor(found.number, gaps), found.newest, found.counts)


def snapshot_written(connection: Connection) -> float:
    """When the snapshot was written; 0 if there is none."""
    return connection.execute(select(live_figures.c.written)).scalar() or 0.0


def write_snapshot(connection: Connection, snapshot: Snapshot, now: float) -> None:
    """Replace the snapshot, unless one is there that has counted more."""
    row = {
        "key": KEY,
        "number": snapshot.cursor.number,
        "gaps": json.dumps(snapshot.cursor.gaps),
        "newest": snapshot.newest,
        "written": now,
        "counts": snapshot.counts,
    }
    statement = insert(live_figures, connection.dialect, [*row])
    new, old = statement.excluded, live_figures.c
    statement = statement.on_conflict_do_update(
        index_elements=[old.key],
        set_={name: new[name] for name in row if name != "key"},
        where=new.number >= old.number,
    )
    execute(connection, statement, [row])
