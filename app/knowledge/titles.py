"""Vectors of titles for requests: from memory or from the store, or computed in a thread.

A request's own titles go first. Those that a site announces (PUT /stories) are computed by another
thread of low priority, so that requests need not wait for them later.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreUnavailable
from app.knowledge.threads import LOADING, Threads
from app.likeness.cache import Vector, VectorCache, content_key
from app.likeness.folder import EncoderError
from app.observability import metrics
from app.store.database import reason
from app.store.vectors import read_vectors, write_vectors

logger = logging.getLogger("frontpage.knowledge")

AT_ONCE = 64
"""How many titles are embedded at once; between such parts, other requests have their turn. A
request with more to embed is a large one."""
LARGE_AT_ONCE = 16
"""The same for a large request: about 60 ms of two cores."""
READ_AT_ONCE = 1000
"""How many vectors one read asks the store for."""
MAX_INLINE = 500
"""From so many titles on, work on them is done in a thread, so as not to block other requests."""
LONG_QUEUE = 256
"""So many titles take a second on two cores. While more are waiting, requests that can do without
the others go on with the vectors in memory: a queue that grows would delay all of them."""
KNOWN_ONLY = -1
PROBE_TITLE = "Microsoft builds a wind farm"
UNIT_TOLERANCE = 0.01
"""How much a stored vector's length may differ from 1; half precision rounds by far less."""

Keys = Mapping[str, bytes]
"""Of vectors, by title."""
Found = dict[str, Vector]
"""Vectors by title."""


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width], of unit length."""
        ...


class TitleVectors:
    """One sentence encoder's vectors. The encoder is loaded with the first title."""

    def __init__(self, maker: bytes, width: int, load: Callable[[], Embeds], work: Threads) -> None:
        """maker: tells the encoder from all others, at most 64 bytes. width: of its vectors."""
        self.width = width
        self._maker = maker
        self._load = load
        self._work = work
        self._encoder: Embeds | None = None
        self.is_proven = False
        """Whether the encoder has been loaded and embeds titles well."""
        self._cache = VectorCache[str, Vector]()
        self._waiting = {True: 0, False: 0}
        """How many titles requests wait for: those with more than AT_ONCE, and the others."""

    async def of(self, titles: Sequence[str], queue: float = inf) -> Found:
        """The vectors [width], of unit length, by title. Raises EncoderError.

        queue: while other requests like this one wait for more titles than that, those that are not
        in memory are left out. KNOWN_ONLY leaves them out in any case.
        """
        look_up = partial(self._look_up, titles)
        is_small = len(titles) < MAX_INLINE
        found, missing = look_up() if is_small else await asyncio.to_thread(look_up)
        metrics.TITLES.labels("known").inc(len(found))
        if missing and self._waiting[len(missing) > AT_ONCE] > queue:
            metrics.TITLES.labels("left_out").inc(len(missing))
        elif missing:
            stored = await self._read(missing)
            metrics.TITLES.labels("stored").inc(len(stored))
            left = {title: key for title, key in missing.items() if title not in stored}
            with self._counted(left):
                found |= stored | await self._compute(left)
        return found

    @contextmanager
    def _counted(self, left: Keys) -> Iterator[None]:
        """Count the titles that a request waits for."""
        is_large = len(left) > AT_ONCE
        self._waiting[is_large] += len(left)
        try:
            yield
        finally:
            self._waiting[is_large] -= len(left)

    def known(self, titles: Sequence[str]) -> Found:
        """Those that are in memory or in the store. Called by threads. Raises SQLAlchemyError."""
        found, left = self._look_up(titles)
        if left:
            with self._work.store.database.reading() as connection:
                found |= self._stored(left, connection)
        return found

    async def prove(self) -> None:
        """Load the encoder and embed a title. Raises EncoderError."""
        if not self.is_proven:
            await asyncio.wrap_future(self._work.requests.submit(self._load_and_embed))
            self.is_proven = True

    def announce(self, titles: Sequence[str]) -> None:
        """Have titles embedded when there is time."""
        for start in range(0, len(titles), AT_ONCE):
            part = titles[start : start + AT_ONCE]
            self._work.later.announce(partial(self._prepare, part), len(part))

    def _look_up(self, titles: Iterable[str]) -> tuple[Found, Keys]:
        """What is in memory, and the keys of the others."""
        different = dict.fromkeys(titles)
        found = self._cache.known(different)
        missing = (title for title in different if title not in found)
        return found, {title: content_key(title, self._maker) for title in missing}

    async def _read(self, missing: Keys) -> Found:
        """What the store has; nothing while it is away."""
        found: Found = {}
        titles = list(missing)
        for start in range(0, len(titles), READ_AT_ONCE):
            part = {title: missing[title] for title in titles[start : start + READ_AT_ONCE]}
            try:
                found |= await self._work.store.reads.read(partial(self._stored, part))
            except StoreUnavailable:
                break
        return found

    async def _compute(self, left: Keys) -> Found:
        """Raises EncoderError."""
        found: Found = {}
        titles = sorted(left, key=len)  # those of similar length are computed together
        is_large = len(titles) > AT_ONCE
        threads = self._work.large if is_large else self._work.requests
        at_once = LARGE_AT_ONCE if is_large else AT_ONCE
        for start in range(0, len(titles), at_once):
            part = {title: left[title] for title in titles[start : start + at_once]}
            work = threads.submit(partial(self._embed, part))
            vectors, made = await asyncio.wrap_future(work)
            metrics.TITLES.labels("computed").inc(len(made))
            metrics.TITLES.labels("known").inc(len(vectors) - len(made))
            if self._work.store.remember:  # else what a request carries is forgotten
                self._work.later.keep(partial(self._keep, made), len(made))
            found |= vectors
        return found

    def _stored(self, keys: Keys, connection: Connection) -> Found:
        """Called by threads. A row that holds no vector of this encoder counts as missing."""
        rows = read_vectors(connection, list(keys.values()))
        found = {
            title: vector
            for title, key in keys.items()
            if key in rows and (vector := parsed(rows[key], self.width)) is not None
        }
        self._cache.put(found)
        return found

    def _embed(self, keys: Keys) -> tuple[Found, dict[bytes, Vector]]:
        """Called by threads: the vectors, and those among them that nobody had computed in the
        meantime, by key. Raises EncoderError."""
        encoder = self._loaded()
        found, left = self._look_up(keys)
        if not left:
            return found, {}
        vectors = encoder.embed(list(left)).astype(np.float16)
        made = {title: vector.copy() for title, vector in zip(left, vectors, strict=True)}
        self._cache.put(made)
        return found | made, {left[title]: vector for title, vector in made.items()}

    def _loaded(self) -> Embeds:
        if self._encoder is None:
            with LOADING:
                self._encoder = self._encoder or self._load()
        return self._encoder

    def _load_and_embed(self) -> None:
        if not np.isfinite(self._loaded().embed([PROBE_TITLE])).all():
            raise EncoderError("the sentence encoder's vectors are not finite")

    def _prepare(self, titles: Sequence[str]) -> None:
        """Compute what is neither in memory nor in the store."""
        _, left = self._look_up(titles)
        if not left:
            return
        try:
            with self._work.store.database.reading() as connection:
                self._stored(left, connection)
        except SQLAlchemyError:
            pass  # what it has is computed again
        _, made = self._embed(left)
        if made:
            self._keep(made)

    def _keep(self, made: Mapping[bytes, Vector]) -> None:
        database = self._work.store.database
        try:
            with database.writing() as connection:
                rows = {key: vector.tobytes() for key, vector in made.items()}
                write_vectors(connection, rows, database.now())
        except SQLAlchemyError as error:  # they are computed again after the next restart
            metrics.STORE_FAILURES.inc()
            logger.warning("vectors of titles can't be stored: %s", reason(error))


def parsed(row: bytes, width: int) -> Vector | None:
    """A vector as the store has it; None if that is none."""
    if len(row) != width * np.dtype(np.float16).itemsize:
        return None
    vector = np.frombuffer(row, np.float16)
    length = float(np.linalg.norm(vector.astype(np.float32)))
    return vector if abs(length - 1) < UNIT_TOLERANCE else None  # NaN is not
