"""Stores for tests, on SQLite and on PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
