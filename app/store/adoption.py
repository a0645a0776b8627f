"""Taking over the answers and feedback that earlier versions kept in `feedback.sqlite`.

The file is renamed once its rows are committed. If the process ends in between, the next start
finds the rows by their ids and adds nothing twice.
"""

import logging
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StartupError
from app.store.database import MIGRATION_LOCK, Database, reason
from app.store.hours import mark_hours
from app.store.statements import CHUNK_ROWS, execute, insert
from app.store.tables import impressions, outcomes

logger = logging.getLogger("frontpage.store")
COLUMNS = ("id", "time", "model", "alias", "ranked", "stories", "indices", "probabilities")


def adopt_feedback(database: Database, file: Path) -> None:
    """Copy the rows of an earlier version's file into the store, if there is one, and rename it.

    Raises StartupError; the file is left as it is then.
    """
    if not file.exists():
        return
    try:
        with database.writing() as connection:
            if not database.is_sqlite:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            if not file.exists():  # another process was faster
                return
            copied = copy_rows(connection, file, database.now())
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise StartupError(
            f"{file} can't be taken over into the store {database.name}: {reason(error)}; mend it"
            " or move it away"
        ) from None
    try:
        for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
            old = file.with_name(name)
            if old.exists():
                old.rename(old.with_name(f"{name}.adopted"))
    except OSError as error:
        raise StartupError(
            f"{file} was taken over into the store {database.name}, but can't be renamed:"
            f" {error.strerror}; move it away"
        ) from None
    logger.warning("%d answers of %s were taken over into %s", copied, file, database.name)


def copy_rows(connection: Connection, file: Path, now: float) -> int:
    """Returns how many answers are new in the store."""
    copied = 0
    with closing(sqlite3.connect(file)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        old.execute("BEGIN")
        answers = old.execute(f"SELECT number, {', '.join(COLUMNS)} FROM answers ORDER BY number")
        while rows := answers.fetchmany(CHUNK_ROWS):
            told = defaultdict(list)
            for number, position, clicked in old.execute(
                "SELECT answer, position, clicked FROM feedback WHERE answer BETWEEN ? AND ?",
                (rows[0][0], rows[-1][0]),
            ):
                told[number].append((position, bool(clicked)))
            copied += copy_chunk(connection, rows, told, now)
    return copied


def copy_chunk(
    connection: Connection,
    rows: list[tuple[Any, ...]],
    told: dict[int, list[tuple[int, bool]]],
    now: float,
) -> int:
    answers = [dict(zip(COLUMNS, row[1:], strict=True)) for row in rows]
    for answer in answers:
        answer["ranked"] = bool(answer["ranked"])
    statement = (
        insert(impressions, connection.dialect, COLUMNS)
        .on_conflict_do_nothing()
        .returning(impressions.c.id, impressions.c.number)
    )
    new = {row.id: row.number for row in execute(connection, statement, answers)}
    mark_hours(connection, (one["time"] for one in answers if one["id"] in new), now)
    learned = {answer["id"]: answer["time"] for answer in answers}
    found = [
        {"impression": new[row[1]], "position": position, "clicked": clicked}
        | {"learned": learned[row[1]]}
        for row in rows
        if row[1] in new
        for position, clicked in told.get(row[0], ())
    ]
    if found:
        execute(connection, insert(outcomes, connection.dialect, [*found[0]]), found)
    return len(new)
