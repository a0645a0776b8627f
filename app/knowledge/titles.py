"""Vectors of titles for requests: from memory or from the store, or computed in a thread.

A request's own titles go first. Those that a site announces (PUT /stories) are computed by another
thread of low priority, so that requests need not wait for them later.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreUnavailable
from app.likeness.cache import Vector, VectorCache, content_key
from app.observability import metrics
from app.store.database import reason
from app.store.store import Store
from app.store.threads import DaemonThreads
from app.store.vectors import read_vectors, write_vectors

logger = logging.getLogger("frontpage.knowledge")

AT_ONCE = 32
"""How many announced titles are embedded before the store is told."""
MAX_ANNOUNCED = 50_000
"""How many announced titles wait at most; requests have further ones computed when they come."""
NICENESS = 10
"""Of the thread that embeds announced titles."""


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width], of unit length."""
        ...


class TitleVectors:
    """One sentence encoder's vectors. The encoder is loaded with the first title."""

    def __init__(self, maker: bytes, load: Callable[[], Embeds], work: "Threads") -> None:
        """maker: tells the encoder from all others, at most 64 bytes."""
        self._maker = maker
        self._load = load
        self._work = work
        self._encoder: Embeds | None = None
        self._loading = threading.Lock()
        self._cache = VectorCache()

    async def of(self, titles: Sequence[str]) -> NDArray[np.float32]:
        """[titles, width], of unit length. Raises EncoderError."""
        keys = [content_key(title, self._maker) for title in titles]
        if not keys:
            return np.zeros((0, 0), np.float32)
        found = self._cache.known(keys)
        missing = {key: title for key, title in zip(keys, titles, strict=True) if key not in found}
        if missing:
            found |= await self._get(missing)
        metrics.TITLES.labels("known").inc(len(keys) - len(missing))
        return np.stack([found[key] for key in keys]).astype(np.float32)

    def announce(self, titles: Sequence[str]) -> None:
        """Have titles embedded when there is time."""
        for start in range(0, len(titles), AT_ONCE):
            self._work.announce(partial(self._prepare, titles[start : start + AT_ONCE]))

    async def _get(self, missing: Mapping[bytes, str]) -> dict[bytes, Vector]:
        try:
            rows = await self._work.store.reads.read(
                lambda connection: read_vectors(connection, list(missing))
            )
        except StoreUnavailable:
            rows = {}
        found = from_rows(rows)
        metrics.TITLES.labels("stored").inc(len(found))
        left = {key: title for key, title in missing.items() if key not in found}
        if left:
            embedding = self._work.requests.submit(lambda: self._embed(left))
            made = await asyncio.wrap_future(embedding)
            self._work.later.submit(lambda: self._keep(made))
            metrics.TITLES.labels("computed").inc(len(made))
            found |= made
        self._cache.put(found)
        return found

    def _embed(self, titles: Mapping[bytes, str]) -> dict[bytes, Vector]:
        """Called by the threads. Raises EncoderError."""
        with self._loading:
            if self._encoder is None:
                self._encoder = self._load()
        vectors = self._encoder.embed(list(titles.values())).astype(np.float16)
        return dict(zip(titles, vectors, strict=True))

    def _prepare(self, titles: Sequence[str]) -> None:
        """Compute what is neither in memory nor in the store."""
        keyed = {content_key(title, self._maker): title for title in titles}
        known = self._cache.known(keyed)
        missing = {key: title for key, title in keyed.items() if key not in known}
        if not missing:
            return
        try:
            with self._work.store.database.reading() as connection:
                found = from_rows(read_vectors(connection, list(missing)))
        except SQLAlchemyError:
            found = {}
        left = {key: title for key, title in missing.items() if key not in found}
        if left:
            made = self._embed(left)
            self._keep(made)
            found |= made
        self._cache.put(found)

    def _keep(self, made: Mapping[bytes, Vector]) -> None:
        database = self._work.store.database
        try:
            with database.writing() as connection:
                rows = {key: vector.tobytes() for key, vector in made.items()}
                write_vectors(connection, rows, database.now())
        except SQLAlchemyError as error:  # they are computed again after the next restart
            metrics.STORE_FAILURES.inc()
            logger.warning("vectors of titles can't be stored: %s", reason(error))


def from_rows(rows: Mapping[bytes, bytes]) -> dict[bytes, Vector]:
    return {key: np.frombuffer(row, np.float16) for key, row in rows.items()}


class Threads:
    """The threads that embed, for all encoders."""

    requests: DaemonThreads
    later: DaemonThreads

    def __init__(self, store: Store) -> None:
        self.store = store
        self._announced = 0

    def start(self) -> None:
        self.requests = DaemonThreads(1, "embed")
        self.later = DaemonThreads(1, "embed-later")
        self.later.submit(lower_priority)
        self._announced = 0

    def announce(self, work: Callable[[], None]) -> None:
        """Do this when there is time, unless too much is waiting."""
        if self._announced * AT_ONCE >= MAX_ANNOUNCED:
            return
        self._announced += 1

        def do() -> None:
            try:
                work()
            except Exception:
                logger.exception("announced titles can't be embedded")
            finally:
                self._announced -= 1

        self.later.submit(do)

    def stop(self) -> None:
        self.requests.stop()
        self.later.stop()


def lower_priority() -> None:
    """Of the thread that calls this; a process's threads have their own on Linux."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
