"""The live figures of this instance, which a thread of its own keeps up with the store.

The thread reads what any instance has learned, this one included, so all of them count the same. A
snapshot of the counts is kept in the store, from which an instance begins. While the store is away,
the figures stay as they are.
"""

import io
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from itertools import chain
from zipfile import BadZipFile

import numpy as np
from sqlalchemy import Connection

from app.live.reading import read_events
from app.observability import metrics
from app.signals.batch import Changes, Event, sum_events
from app.signals.counters import Counts, HalfLives
from app.signals.gate import GateLimits, Kind
from app.signals.live import KINDS, Figures, LiveFigures, SignalOptions
from app.store.attempts import Attempts
from app.store.changes import CHANGES_KEPT_S, Cursor, read_changes
from app.store.counted import (
    Snapshot,
    read_categories,
    read_snapshot,
    snapshot_written,
    write_snapshot,
)
from app.store.database import Database
from app.store.threads import DaemonThreads

logger = logging.getLogger("frontpage.live")

POLL_S = 0.5
"""Seconds between two looks for new changes."""
SNAPSHOT_S = 60.0
"""How old the snapshot in the store becomes before an instance replaces it."""
SNAPSHOT_READ_S = 30.0
STOP_S = 10.0
"""How many seconds `stop` waits for the last snapshot."""
CATEGORIES_FRESH_S = 60.0
EVENTS_AT_ONCE = 250
"""How many events are added to the figures while nobody can read them."""


class Live:
    """Figures by the ids of stories. `start` begins to keep them up; the database must be open."""

    def __init__(
        self,
        database: Database,
        half_life_s: float | None,
        max_stories: int,
        key_limit: int | None = None,
    ) -> None:
        self._database = database
        self.half_life_s = half_life_s
        limits = GateLimits(key_limit=key_limit)
        self._options = SignalOptions(HalfLives(slow_s=half_life_s), max_stories, limits)
        self._figures = LiveFigures(self._options)
        self._lock = threading.Lock()
        self._categories: dict[str, str | None] = {}
        self._categories_read = 0.0
        self._stopping = threading.Event()
        self._done: Future[None] | None = None
        self._cursor = Cursor()
        self._restored = False
        self._attempts = Attempts(logger, "live figures can't follow the store")
        self._polled = self._snapshot_tried = 0.0
        self._kept_number = 0
        self.newest: float | None = None

    def start(self) -> None:
        self._stopping.clear()
        self._restored = False
        self._snapshot_tried = time.monotonic()
        thread = DaemonThreads(1, "live")
        self._done = thread.submit(self._run)
        thread.stop()  # it ends once `_run` does

    def stop(self) -> None:
        """Keep a last snapshot, if the store takes it within STOP_S."""
        self._stopping.set()
        if self._done is not None:
            wait_for([self._done], STOP_S)
            self._done = None

    def figures(
        self, stories: Sequence[str], categories: Sequence[str | None], now: float
    ) -> Figures:
        """What is known of candidates, given by id and category. now: of the store's clock."""
        with self._lock:
            return self._figures.figures(stories, categories, now)

    def __len__(self) -> int:
        """How many stories have figures."""
        return len(self._figures)

    # Called by the thread alone

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._attempts.make(self.follow):
                self._stopping.wait(POLL_S)
        if self._restored:
            self._attempts.make(self.keep_snapshot)

    def follow(self) -> bool:
        """Count the next changes; returns whether there may be more. Raises SQLAlchemyError."""
        if not self._restored or time.monotonic() - self._polled > CHANGES_KEPT_S / 2:
            self._restore()
        with self._database.reading() as connection:
            now = self._database.now()
            changes, cursor = read_changes(connection, self._cursor)
            events = read_events(connection, changes, now)
            self._read_categories(connection, events)
        self._cursor = cursor
        self._count(events, now)
        self._polled = time.monotonic()
        if self._polled - self._snapshot_tried > SNAPSHOT_S:
            self._snapshot_tried = self._polled
            self.keep_snapshot(at_least_s=SNAPSHOT_S / 2)
        return bool(changes)

    def _read_categories(self, connection: Connection, events: Sequence[Event]) -> None:
        """Know the categories of the events' stories; None of one that is not stored."""
        old = time.monotonic() - self._categories_read > CATEGORIES_FRESH_S
        if old or len(self._categories) > self._options.max_stories:
            self._categories = {}
            self._categories_read = time.monotonic()
        named = set(chain.from_iterable(event.stories for event in events))
        missing = list(named.difference(self._categories))
        self._categories.update(dict.fromkeys(missing))
        self._categories.update(read_categories(connection, missing))

    def _count(self, events: Sequence[Event], now: float) -> None:
        for start in range(0, len(events), EVENTS_AT_ONCE):
            some = events[start : start + EVENTS_AT_ONCE]
            weights = self._figures.position_weights(now)
            added = sum_events(
                some, self._figures.gate, weights, self._categories, self._options.half_lives
            )
            with self._lock:
                self._figures.merge(added)
            self.newest = max(self.newest or 0.0, *(event.at for event in some))
        kinds = Counter(event.kind for event in events)
        metrics.LIVE_EVENTS.labels("click").inc(kinds[Kind.CLICKED])
        metrics.LIVE_EVENTS.labels("impression").inc(kinds[Kind.SHOWN])
        self._tell()

    def _tell(self) -> None:
        metrics.LIVE_STORIES.set(len(self._figures))
        if self.newest is not None:
            metrics.LIVE_NEWEST.set(self.newest)

    def _restore(self) -> None:
        """Begin with the snapshot in the store, if it has counted more than this instance."""
        with self._database.reading(timeout_s=SNAPSHOT_READ_S) as connection:
            found = read_snapshot(connection)
        if found is not None and found.cursor.number > self._cursor.number:
            self._begin_with(found)
        self._restored = True

    def _begin_with(self, snapshot: Snapshot) -> None:
        try:
            counts = unpacked(snapshot.counts)
        except ValueError as error:  # the next snapshot replaces it
            logger.error("the store's live figures are lost: %s", error)
            counts = {}
        with self._lock:
            self._figures.restore(counts)
        self._cursor, self.newest = snapshot.cursor, snapshot.newest
        self._kept_number = snapshot.cursor.number
        self._tell()

    def keep_snapshot(self, at_least_s: float = 0.0) -> bool:
        """Replace the snapshot in the store if it is so old and there is something new."""
        if self._cursor.number == self._kept_number:
            return False
        now = self._database.now()
        with self._database.reading() as connection:
            if now - snapshot_written(connection) < at_least_s:
                return False
        counts = packed(self._figures.snapshot())
        with self._database.writing() as connection:
            write_snapshot(connection, Snapshot(self._cursor, self.newest, counts), now)
        self._kept_number = self._cursor.number
        return False


def packed(counts: Changes) -> bytes:
    buffer = io.BytesIO()
    parts = {kind: np.frombuffer(one.to_bytes(), np.uint8) for kind, one in counts.items()}
    np.savez(buffer, allow_pickle=False, **parts)
    return buffer.getvalue()


def unpacked(data: bytes) -> Changes:
    """Raises ValueError for anything else than what `packed` made."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return {kind: Counts.from_bytes(found[kind].tobytes()) for kind in KINDS}
    except (OSError, KeyError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"not a snapshot of live figures: {error}") from None
