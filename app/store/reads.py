"""Reads on behalf of requests, in a few threads and with a deadline.

While the database is away or slow, stories and readers are answered from what this instance has
read before, for READ_PAUSE_S without another try.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.errors import NotFound, StoreUnavailable
from app.observability import metrics
from app.store.cache import Cache
from app.store.database import Database, reason
from app.store.reading import Past, ReaderSummary, read_past, read_reader, read_stories
from app.store.records import ReaderKey, StoredStory
from app.store.retention import Retention
from app.store.threads import DaemonThreads

logger = logging.getLogger("frontpage.store")

Value = TypeVar("Value")

THREADS = 4
DEADLINE_S = 0.5
"""How many seconds a request waits for stories or a reader before it goes on without."""
SUMMARY_DEADLINE_S = 10.0
READ_PAUSE_S = 1.0
"""For how long after a failure no request tries to read again."""
READERS_FRESH_S = 1.0
STORIES_FRESH_S = 30.0
"""For how long what was read counts as current."""
HISTORY_STORIES = 50
"""How many of a reader's stories are read; a profile uses the last of them."""


class Reads:
    def __init__(self, database: Database, key: ReaderKey, retention: Retention) -> None:
        self._database = database
        self._key = key
        self._retention = retention
        self._stories: Cache[StoredStory] = Cache(STORIES_FRESH_S)
        self._pasts: Cache[Past] = Cache(READERS_FRESH_S)
        self.erased: frozenset[bytes] = frozenset()
        """Readers that any instance has erased lately. Their pasts are to be forgotten; set
        from another thread."""
        self._paused_until = 0.0
        self._threads: DaemonThreads | None = None

    def start(self) -> None:
        self._threads = DaemonThreads(THREADS, "store-read")

    def stop(self) -> None:
        if self._threads:
            self._threads.stop()
            self._threads = None

    def oldest(self) -> float:
        """What happened before this time is not kept, in seconds since 1970."""
        return self._database.now() - self._retention.days * 86400

    async def stories(self, ids: Iterable[str]) -> dict[str, StoredStory]:
        """The stored ones among these ids, by id.

        Raises StoreUnavailable if the store is away and this instance does not know one of them.
        """
        wanted = set(ids)
        missing = [name for name in wanted if not self._stories.fresh(name)]
        if missing:
            try:
                found = await self.read(lambda connection: read_stories(connection, missing))
            except StoreUnavailable:
                if any(self._stories.get(name) is None for name in missing):
                    raise
            else:
                for name in missing:
                    if name in found:
                        self._stories.put(name, found[name])
                    else:
                        self._stories.drop(name)
        known = {name: self._stories.get(name) for name in wanted}
        return {name: story for name, story in known.items() if story is not None}

    async def past(self, reader_id: str) -> Past:
        """What the reader did lately, with at most HISTORY_STORIES in the history.

        While the store is away, it is what this instance knows, which may be nothing.
        """
        reader = self._key.hash(reader_id)
        erased, self.erased = self.erased, frozenset()
        for one in erased:
            self._pasts.drop(one)
        if not self._pasts.fresh(reader):
            try:
                found = await self.read(
                    lambda connection: read_past(connection, reader, HISTORY_STORIES, self.oldest())
                )
                self._pasts.put(reader, found)
            except StoreUnavailable:
                metrics.STORE_READS_MISSED.inc()
        return self._pasts.get(reader) or Past()

    async def reader(self, reader_id: str) -> ReaderSummary:
        """Raises NotFound if nothing is known, or StoreUnavailable."""
        reader = self._key.hash(reader_id)
        found = await self.read(
            lambda connection: read_reader(connection, reader, HISTORY_STORIES, self.oldest()),
            SUMMARY_DEADLINE_S,
        )
        if not found.impressions and not found.clicks:
            raise NotFound(f"nothing is known about reader {reader_id!r}", "reader_id")
        return found

    def learn(self, story: StoredStory) -> None:
        self._stories.put(story.id, story)

    def forget_story(self, story: str) -> None:
        self._stories.drop(story)

    def forget_reader(self, reader_id: str) -> None:
        self._pasts.drop(self._key.hash(reader_id))

    def outdate_reader(self, reader_id: str) -> None:
        """Have the reader's history read again with the next request."""
        self._pasts.outdate(self._key.hash(reader_id))

    async def read(
        self, work: Callable[[Connection], Value], deadline_s: float = DEADLINE_S
    ) -> Value:
        """Read in a thread. Raises StoreUnavailable, at once for READ_PAUSE_S after a failure."""
        if self._threads is None or time.monotonic() < self._paused_until:
            raise StoreUnavailable("the store can't be read at the moment")
        future: Future[Value] = self._threads.submit(lambda: self._read_now(work))
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(future)
        except (SQLAlchemyError, TimeoutError) as error:
            self._paused_until = time.monotonic() + READ_PAUSE_S
            metrics.STORE_FAILURES.inc()
            logger.warning("the store can't be read: %s", reason(error))
            raise StoreUnavailable("the store can't be read at the moment") from None

    def _read_now(self, work: Callable[[Connection], Value]) -> Value:
        with self._database.reading() as connection:
            return work(connection)
