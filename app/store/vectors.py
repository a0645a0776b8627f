"""Vectors of stories' titles, so that each is computed once for all instances and restarts."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from app.store.statements import among, chunks, execute, insert
from app.store.tables import vectors

COLUMNS = ("key", "vector", "written")


def read_vectors(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The stored ones among these keys."""
    return {
        bytes(row.key): bytes(row.vector)
        for part in chunks(keys)
        for row in connection.execute(
            select(vectors.c.key, vectors.c.vector).where(
                among(vectors.c.key, part, connection.dialect)
            )
        )
    }


def write_vectors(connection: Connection, found: Mapping[bytes, bytes], now: float) -> None:
    """They replace what is there under the same keys, which may be broken."""
    statement = insert(vectors, connection.dialect, COLUMNS)
    statement = statement.on_conflict_do_update(
        index_elements=[vectors.c.key],
        set_={"vector": statement.excluded.vector, "written": statement.excluded.written},
    )
    rows = [{"key": key, "vector": found[key], "written": now} for key in sorted(found)]
    for part in chunks(rows):
        execute(connection, statement, part)
