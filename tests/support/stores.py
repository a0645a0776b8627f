"""Stores for tests, on SQLite and on PostgreSQL."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, text

from app.store.database import Database, parse_url
from app.store.records import ReaderKey
from app.store.retention import Retention
from app.store.store import Store

KEY = ReaderKey(b"a key for tests")


def make_store(url: str, days: float = 30, rows: int = 1000, **options: Any) -> Store:
    return Store(Database(url), Retention(days, rows), KEY, **options)


@contextmanager
def running(url: str, days: float = 30, rows: int = 1000, **options: Any) -> Iterator[Store]:
    store = make_store(url, days, rows, **options)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query of our own finds in the database."""
    engine = create_engine(parse_url(url))
    try:
        with engine.connect() as connection:
            found: Sequence[Any] = connection.execute(text(query)).all()
            return [tuple(row) for row in found]
    finally:
        engine.dispose()


def with_tables(folder: Path, start: Callable[[Store], None]) -> Callable[[Store], None]:
    """Store.start that begins a new SQLite file as a copy of one with all tables and no rows.

    folder: where that one is made.
    """
    made = folder / "store.sqlite"
    database = Database(f"sqlite:///{made}")
    database.open()
    database.close()

    def place(file: Path) -> None:
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=file.parent) as beside:
            os.link(shutil.copy(made, beside), file)  # whole, and only if there is still none

    def start_with_tables(store: Store) -> None:
        if store.database.is_sqlite:
            with suppress(OSError):  # it is there, or the start says what is wrong
                place(Path(str(store.database.url.database)))
        start(store)

    return start_with_tables
