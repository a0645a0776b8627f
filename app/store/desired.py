"""The models that all instances should serve, and what each instance reports that it does.

Changes are small transactions of their own, in threads of their own, so that they wait neither for
a batch of the writer nor for reads on behalf of requests.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, delete, extract, func, select
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreUnavailable
from app.observability import metrics
from app.store.database import Database
from app.store.statements import execute, insert
from app.store.tables import desired, instances
from app.store.threads import DaemonThreads

Value = TypeVar("Value")

THREADS = 2
READ_S = 2.0
"""How many seconds a read or a report may take."""
CHANGE_S = 8.0
"""How many seconds a change may take, then nothing has changed."""
SEEN_S = 30.0
"""An instance that has not reported for so long is gone."""
KEY = 1


@dataclass(frozen=True, slots=True)
class Revision:
    """number: rises with each change; 0 before the first. content: JSON, or None before it."""

    number: int
    content: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What an instance serves, as JSON, and how many seconds ago it said so."""

    name: str
    state: str
    age_s: float


class DesiredState:
    """All methods raise StoreUnavailable if the store is away or too slow."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads: DaemonThreads | None = None

    def start(self) -> None:
        self._threads = DaemonThreads(THREADS, "store-desired")

    def stop(self) -> None:
        if self._threads:
            self._threads.stop()
            self._threads = None

    async def number(self) -> int:
        """The newest revision's number."""
        statement = select(desired.c.revision).where(desired.c.key == KEY)
        return await self._read(lambda connection: connection.execute(statement).scalar() or 0)

    async def read(self) -> Revision:
        return await self._read(read_revision)

    async def change(self, edit: Callable[[str | None], str]) -> Revision:
        """Make one change, which all instances see in the same order; returns what is there then.

        edit: newest content → new content. If another instance changes it in between, `edit` is
        called again with what is newest then. What it raises is raised here, and nothing changes.
        """
        abandoned = threading.Event()

        def work() -> Revision:
            with self._database.writing() as connection:
                found = swap(connection, edit)
                if abandoned.is_set():  # the caller has said that nothing changed
                    raise TimeoutError
            return found

        return await self._run(work, CHANGE_S, abandoned)

    async def report(self, name: str, state: str, first: bool = False) -> None:
        """Say what this instance serves, and that it is alive. state: JSON. first: since its start,
        so that this is when it started."""
        statement = insert(instances, self._database.dialect, ("name", "started", "seen", "state"))
        new = statement.excluded
        values = {"seen": new.seen, "state": new.state} | (
            {"started": new.started} if first else {}
        )
        statement = statement.on_conflict_do_update(index_elements=[instances.c.name], set_=values)

        def work() -> None:
            with self._database.writing() as connection:
                now = clock(connection)
                row = {"name": name, "started": now, "seen": now, "state": state}
                execute(connection, statement, [row])

        await self._run(work, READ_S)

    async def leave(self, name: str) -> None:
        """Take this instance's report away."""

        def work() -> None:
            with self._database.writing() as connection:
                connection.execute(delete(instances).where(instances.c.name == name))

        await self._run(work, READ_S)

    async def reports(self) -> list[Report]:
        """Those of all instances that have been seen lately, by name."""
        return await self._read(read_reports)

    async def _read(self, work: Callable[[Connection], Value]) -> Value:
        def read() -> Value:
            with self._database.reading() as connection:
                return work(connection)

        return await self._run(read, READ_S)

    async def _run(
        self,
        work: Callable[[], Value],
        deadline_s: float,
        abandoned: threading.Event | None = None,
    ) -> Value:
        if self._threads is None:
            raise StoreUnavailable("the store is closed")
        future: Future[Value] = self._threads.submit(work)
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(future)  # what has not begun is cancelled with it
        except (SQLAlchemyError, TimeoutError):
            metrics.STORE_FAILURES.inc()
            if abandoned is not None:
                abandoned.set()
            raise StoreUnavailable(
                "the store is away or too slow at the moment; nothing has changed"
            ) from None


def read_revision(connection: Connection) -> Revision:
    found = connection.execute(
        select(desired.c.revision, desired.c.content).where(desired.c.key == KEY)
    ).one_or_none()
    return Revision(0, None) if found is None else Revision(*found)


def swap(connection: Connection, edit: Callable[[str | None], str]) -> Revision:
    """Compare and swap, until it succeeds. No change is written if `edit` changes nothing."""
    while True:
        old = read_revision(connection)
        content = edit(old.content)
        if content == old.content:
            return old
        new = Revision(old.number + 1, content)
        if write(connection, old, new):
            return new


def write(connection: Connection, old: Revision, new: Revision) -> bool:
    """Whether `old` was still the newest, so that `new` is now."""
    values = {"revision": new.number, "content": new.content}
    if old.content is None:
        row = {"key": KEY, **values}
        first = insert(desired, connection.dialect, [*row]).on_conflict_do_nothing()
        found = execute(connection, first.returning(desired.c.revision), [row])
    else:
        same = (desired.c.key == KEY) & (desired.c.revision == old.number)
        update = desired.update().where(same).values(values)
        found = connection.execute(update.returning(desired.c.revision))
    return found.one_or_none() is not None


def clock(connection: Connection) -> float:
    """The database's clock, which all instances share: seconds since 1970."""
    if connection.dialect.name == "sqlite":
        return time.time()
    found = connection.execute(select(extract("epoch", func.clock_timestamp())))
    return float(found.scalar_one())


def read_reports(connection: Connection) -> list[Report]:
    now = clock(connection)
    columns = instances.c.name, instances.c.state, instances.c.seen
    found = connection.execute(
        select(*columns).where(instances.c.seen > now - SEEN_S).order_by(instances.c.name)
    )
    return [Report(row.name, row.state, now - row.seen) for row in found]
