"""Reading the stories that were sent or shown last, for an instance that keeps them in memory.

Stories without an id of their own are left out: no site knows them by the id that their title gives
them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from app.store.records import TITLE_ID_PREFIX, StoredStory
from app.store.statements import among, chunks
from app.store.tables import stories

PAGE_ROWS = 5000
NAMED = ~stories.c.id.startswith(TITLE_ID_PREFIX)


class Listed(NamedTuple):
    """A story, and when it was last sent or shown, in seconds since 1970."""

    story: StoredStory
    updated: float


def read_since(connection: Connection, since: float) -> Iterator[list[Listed]]:
    """The stories that were sent or shown from this moment on, in the order of these moments and in
    parts."""
    row = stories.c
    columns = row.id, row.title, row.category, row.published, row.updated
    later: ColumnElement[bool] = row.updated >= since
    while True:
        page = connection.execute(
            select(*columns).where(NAMED, later).order_by(row.updated, row.id).limit(PAGE_ROWS)
        ).all()
        if page:
            yield [listed(*found) for found in page]
        if len(page) < PAGE_ROWS:
            return
        last = page[-1]
        later = and_(row.updated >= last.updated, or_(row.updated > last.updated, row.id > last.id))


def read_moments(connection: Connection, limit: int) -> dict[str, float]:
    """When each of the `limit` stories that were sent or shown last was so, by id, latest first."""
    row = stories.c
    found: dict[str, float] = {}
    earlier: ColumnElement[bool] = row.updated.is_not(None)
    while len(found) < limit:
        rows = min(PAGE_ROWS, limit - len(found))
        page = connection.execute(
            select(row.id, row.updated)
            .where(NAMED, earlier)
            .order_by(row.updated.desc(), row.id.desc())
            .limit(rows)
        ).all()
        found.update((one.id, one.updated) for one in page)
        if len(page) < rows:
            break
        last = page[-1]
        earlier = and_(
            row.updated <= last.updated, or_(row.updated < last.updated, row.id < last.id)
        )
    return found


def read_listed(connection: Connection, ids: Sequence[str]) -> Iterator[list[Listed]]:
    """The stored ones among these ids, in parts."""
    row = stories.c
    columns = row.id, row.title, row.category, row.published, row.updated
    for part in chunks(ids):
        wanted = among(row.id, part, connection.dialect)
        yield [listed(*found) for found in connection.execute(select(*columns).where(wanted))]


def listed(
    id: str, title: str, category: str | None, published: float | None, updated: float
) -> Listed:
    return Listed(StoredStory(id, title, category, published), updated)
