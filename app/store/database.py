"""Connections to the store's database, SQLite or PostgreSQL, and its migrations.

SQLite migrates itself when it is opened. PostgreSQL is migrated by `python -m app.store migrate`,
and a service that finds another version does not start.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import DeadlockDetected
from sqlalchemy import Connection, Dialect, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from app.errors import StartupError
from app.files import first_line

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT_S = 5.0
"""How many seconds a write waits for a lock that another service holds."""
CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 2.0
"""How many seconds PostgreSQL may take for a read on behalf of a request."""
MIGRATION_LOCK = 0x46726F6E74
"""PostgreSQL's advisory lock while migrating: "Front"."""
CONNECTION_LOST_S = 5
"""After so many seconds without an acknowledgement a connection counts as lost."""


class Database:
    """Opens connections; `open` first. One object serves all threads."""

    def __init__(self, url: str) -> None:
        """Raises StartupError for a URL that is neither SQLite's nor PostgreSQL's."""
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._ahead_s = 0.0
        self._writing, self._reading = self._engines()

    @property
    def name(self) -> str:
        """The URL without its password, and without its options, which may hold one too."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    def open(self) -> None:
        """Connect, and on SQLite create the file and its tables. Raises StartupError."""
        try:
            if self.is_sqlite:
                Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
                self.migrate()
            else:
                self.check_version()
        except StartupError:
            self.close()
            raise
        except (SQLAlchemyError, OSError) as error:
            self.close()
            raise StartupError(
                f"the store {self.name} can't be opened: {reason(error)}; FRONTPAGE_STORE sets it"
            ) from None

    @property
    def dialect(self) -> Dialect:
        return self._writing.dialect

    def close(self) -> None:
        self._writing.dispose()
        self._reading.dispose()

    def migrate(self) -> None:
        """Bring the tables to this program's version. Of several processes that do so at once, the
        others wait for the first. Raises SQLAlchemyError, StartupError for a newer version."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            found = MigrationContext.configure(connection).get_current_revision()
            if found != head():
                check_known(found)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

    def check_version(self) -> None:
        """Raises StartupError if the tables are not of this program's version."""
        with self.reading() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            self._measure_clock(connection)
        check_known(found)
        if found != head():
            raise StartupError(
                f"the store {self.name} has version {found or 'none'}, this service needs"
                f" {head()}: run `python -m app.store migrate`"
            )

    def now(self) -> float:
        """The time by the database's clock, as last measured, in seconds since 1970."""
        return time.time() + self._ahead_s

    def measure_clock(self) -> None:
        """Measure how far the database's clock is ahead of this machine's. Raises
        SQLAlchemyError."""
        if not self.is_sqlite:
            with self.reading() as connection:
                self._measure_clock(connection)

    def _measure_clock(self, connection: Connection) -> None:
        before = time.time()
        found = connection.execute(
            text("SELECT extract(epoch FROM clock_timestamp())")
        ).scalar_one()
        self._ahead_s = float(found) - (before + time.time()) / 2

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back if the block raises."""
        with self._writing.begin() as connection:
            yield connection

    @contextmanager
    def reading(self, timeout_s: float | None = None) -> Iterator[Connection]:
        """A snapshot to read from. timeout_s: for each statement, instead of READ_TIMEOUT_S."""
        with self._reading.begin() as connection:
            if timeout_s is not None and not self.is_sqlite:
                connection.execute(text(f"SET LOCAL statement_timeout = {int(timeout_s * 1e3)}"))
            yield connection

    def _engines(self) -> tuple[Engine, Engine]:
        if self.is_sqlite:
            waiting = {"timeout": LOCK_TIMEOUT_S, "check_same_thread": False}
            writing = create_engine(self.url, connect_args=waiting, pool_size=4)
            reading = create_engine(self.url, connect_args=waiting, pool_size=8)
            for engine, begin in ((writing, "BEGIN IMMEDIATE"), (reading, "BEGIN")):
                prepare_sqlite(engine, begin)
            return writing, reading
        return (
            postgresql(self.url, size=4, timeout_s=LOCK_TIMEOUT_S),
            postgresql(self.url, size=8, timeout_s=READ_TIMEOUT_S, isolation="REPEATABLE READ"),
        )


def parse_url(url: str) -> URL:
    """Raises StartupError."""
    try:
        found = make_url(url)
        backend = found.get_backend_name()
    except (ArgumentError, ValueError):
        raise StartupError("setting FRONTPAGE_STORE: not a URL of a database") from None
    if backend == "sqlite":
        if not found.database or found.database == ":memory:":
            raise StartupError("setting FRONTPAGE_STORE: a file is needed, sqlite:///PATH")
        return found.set(drivername="sqlite+pysqlite")
    if backend == "postgresql":
        return found.set(drivername="postgresql+psycopg")
    raise StartupError(f"setting FRONTPAGE_STORE: sqlite or postgresql is needed, not {backend}")


def postgresql(url: URL, size: int, timeout_s: float, isolation: str = "READ COMMITTED") -> Engine:
    options = {
        "statement_timeout": f"{timeout_s}s",
        "lock_timeout": f"{timeout_s}s",
        "idle_in_transaction_session_timeout": "60s",
    }
    return create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,  # a connection that broke while idle is replaced without an error
        isolation_level=isolation,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "frontpage",
            "tcp_user_timeout": CONNECTION_LOST_S * 1000,
            "keepalives_idle": CONNECTION_LOST_S,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        },
    )


def prepare_sqlite(engine: Engine, begin: str) -> None:
    """Start transactions with `begin`, and set what each new connection needs."""

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # it begins no transactions of its own
        use_wal(connection)
        connection.executescript(
            "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
            f"PRAGMA journal_size_limit = {64 << 20};"
        )

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, with retries of our own: SQLite's timeout does not apply if two
    connections switch a new file at the same time."""
    give_up = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def head() -> str:
    """The newest version of the tables that this program knows."""
    found = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert found
    return found


def check_known(version: str | None) -> None:
    """Raises StartupError for a version that a newer program made."""
    known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if version is not None and version not in known:
        raise StartupError(
            f"the store has version {version}, which a newer Frontpage made; this one knows"
            f" {head()}"
        )


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL has ended a transaction for the sake of another one that waited for it."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    return isinstance(cause, DeadlockDetected)


def reason(error: BaseException) -> str:
    """An error in one line, in the driver's words."""
    cause = error.__cause__ if isinstance(error, SQLAlchemyError) and error.__cause__ else error
    return first_line(cause)
