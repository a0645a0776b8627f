"""The SQLite file of answers and feedback: its tables, and what is done to them.

Times are seconds since 1970. A kill loses nothing that was committed; a power cut may lose the last
commits, but can't damage the file (WAL, synchronous=NORMAL). The file keeps its largest size: what
is deleted makes room for what comes.
"""

import sqlite3
import time
from array import array
from pathlib import Path
from typing import NamedTuple

from app.errors import ClientError, InvalidValue, NotFound

VERSION = 1
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY,   -- ascending with time
    id TEXT NOT NULL UNIQUE,
    time REAL NOT NULL,           -- seconds since 1970
    model TEXT NOT NULL,
    alias TEXT,
    ranked INTEGER NOT NULL,      -- 0: each story stands alone
    stories INTEGER NOT NULL,
    indices BLOB NOT NULL,        -- uint16 each: places in the request, in the order shown
    probabilities BLOB NOT NULL   -- float32 each, in the order shown
);
CREATE TABLE IF NOT EXISTS feedback (
    answer INTEGER NOT NULL REFERENCES answers ON DELETE CASCADE,
    position INTEGER NOT NULL,    -- in the order shown, from 0
    clicked INTEGER NOT NULL,
    PRIMARY KEY (answer, position)
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""
INSERT = (
    "REPLACE INTO answers (id, time, model, alias, ranked, stories, indices, probabilities)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
BUSY_S = 5.0
"""How long another service on the same file may hold its lock."""
TRIM = 10_000
"""Answers deleted at most in one transaction, so that none takes long."""


class Given(NamedTuple):
    """An answer, as it is kept: a row of `answers`."""

    id: str
    time: float
    model: str
    alias: str | None
    ranked: bool
    stories: int
    indices: bytes
    probabilities: bytes


def open_store(file: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error."""
    connection = sqlite3.connect(
        file, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise sqlite3.DatabaseError(f"it has version {found}, this service has {VERSION}")
        use_wal(connection)
        connection.executescript(
            "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
            f"PRAGMA journal_size_limit = {64 << 20}; BEGIN IMMEDIATE; {SCHEMA} COMMIT;"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Waits itself: where two connections switch a new file at once, SQLite fails one at once."""
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def join(
    connection: sqlite3.Connection, answer_id: str, index: int, clicked: bool, oldest: float
) -> str | ClientError:
    """The answer's model; or why there is no such answer or story. Later feedback replaces."""
    found = connection.execute(
        "SELECT number, model, indices FROM answers WHERE id = ? AND time >= ?", (answer_id, oldest)
    ).fetchone()
    if found is None:
        return NotFound(f"id: no answer {answer_id!r} is kept; it may be too old", "id")
    number, model, blob = found
    indices = array("H", blob)
    if index not in indices:
        return InvalidValue(f"index: the answer holds no story {index}", "index")
    connection.execute(
        "INSERT INTO feedback VALUES (?, ?, ?)"
        " ON CONFLICT (answer, position) DO UPDATE SET clicked = excluded.clicked",
        (number, indices.index(index), clicked),
    )
    return str(model)


def trim(connection: sqlite3.Connection, oldest: float, answers: int) -> None:
    """Delete what is older or beyond so many, the oldest first, at most TRIM at once.

    Costs what it deletes: numbers ascend, so both limits are found from the table's ends. Replaced
    answers count as kept ones here; at most `answers` remain in any case.
    """
    first, last = connection.execute(
        "SELECT (SELECT min(number) FROM answers), (SELECT max(number) FROM answers)"
    ).fetchone()
    if first is None:
        return
    young = connection.execute(
        "SELECT number FROM answers WHERE time >= ? AND number < ? ORDER BY number LIMIT 1",
        (oldest, first + TRIM),
    ).fetchone()
    keep_from = max(young[0] if young else first + TRIM, last + 1 - answers)
    if keep_from > first:
        connection.execute("DELETE FROM answers WHERE number < ?", (min(keep_from, first + TRIM),))
