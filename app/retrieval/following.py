"""A thread that keeps the catalogue up with the store, and gives its stories their vectors.

It looks for stories that were sent or shown lately, and now and then for all. So it also notices
those that have left the store, and those whose transactions took long. While the store is away, the
catalogue stays as it is.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for

from app.knowledge.threads import lower_priority
from app.knowledge.titles import TitleVectors
from app.observability import metrics
from app.retrieval.catalogue import Catalogue
from app.store.attempts import Attempts
from app.store.database import Database
from app.store.listing import read_listed, read_moments, read_since
from app.store.threads import DaemonThreads

logger = logging.getLogger("frontpage.retrieval")

POLL_S = 1.0
"""Seconds between two looks for stories that were sent or shown lately."""
OVERLAP_S = 5.0
"""How far back each look goes behind the one before: a transaction may end after others that began
later."""
WHOLE_S = 20.0
"""Seconds between two looks for all stories."""
READ_S = 30.0
"""How many seconds one statement may take."""
AT_ONCE = 1000
"""How many stories get their vectors at once."""
ANNOUNCED_AGAIN_S = 60.0
"""Seconds until vectors that did not come are asked for again."""
STOP_S = 5.0


class Following:
    """titles: the sentence encoder's vectors; None as long as no model uses one."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        titles: Callable[[], TitleVectors | None],
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._titles = titles
        self._stopping = threading.Event()
        self._done: Future[None] | None = None
        self._looked_at = 0.0  # the last look, by the store's clock
        self._looked_at_all = -math.inf
        self._attempts = Attempts(logger, "the catalogue can't follow the store")
        self._announced: dict[int, float] = {}  # rows, and when their titles were announced

    def start(self) -> None:
        """Begin to follow; the database must be open."""
        if self._catalogue.limit:
            self._stopping.clear()
            thread = DaemonThreads(1, "catalogue")
            self._done = thread.submit(self._run)
            thread.stop()  # it ends once `_run` does

    def stop(self) -> None:
        self._stopping.set()
        if self._done is not None:
            wait_for([self._done], STOP_S)
            self._done = None

    # Called by the thread alone

    def _run(self) -> None:
        lower_priority()
        while not self._stopping.is_set():
            if not self._attempts.make(self.follow):
                self._stopping.wait(POLL_S)

    def follow(self) -> bool:
        """Take over what is new in the store; returns whether vectors may still be known. Raises
        SQLAlchemyError."""
        if time.monotonic() - self._looked_at_all >= WHOLE_S:
            self._look_at_all()
        else:
            self._look_for_new()
        more = self._embed()
        metrics.CATALOGUE.set(len(self._catalogue))
        metrics.CATALOGUE_VECTORS.set(self._catalogue.embedded)
        return more

    def _look_for_new(self) -> None:
        read_at, now = time.monotonic(), self._database.now()
        with self._database.reading(READ_S) as connection:
            for part in read_since(connection, self._looked_at - OVERLAP_S):
                self._catalogue.put(part, read_at)
        self._looked_at = now

    def _look_at_all(self) -> None:
        read_at, now = time.monotonic(), self._database.now()
        with self._database.reading(READ_S) as connection:
            moments = read_moments(connection, self._catalogue.limit)
            wanted = self._catalogue.keep_only(moments)
            for part in read_listed(connection, wanted):  # the latest first
                self._catalogue.put(part, read_at)
                if self._stopping.is_set():
                    return
        self._looked_at, self._looked_at_all = now, read_at

    def _embed(self) -> bool:
        """Give stories the vectors that are known, and have others computed; returns whether some
        more may be known."""
        titles = self._titles()
        if titles is None:
            return False
        now = time.monotonic()
        recent = [row for row, at in self._announced.items() if now - at < ANNOUNCED_AGAIN_S]
        still = self._take(titles, recent)
        self._announced = {row: self._announced[row] for row in still}
        if len(still) > AT_ONCE // 2:
            return False
        others = [row for row in self._catalogue.without_vectors().tolist() if row not in still]
        some = random.sample(others, min(AT_ONCE, len(others)))  # other instances compute others
        left = self._take(titles, some)
        titles.announce(list(left.values()))
        self._announced |= dict.fromkeys(left, now)
        return len(left) < len(some)

    def _take(self, titles: TitleVectors, rows: Sequence[int]) -> dict[int, str]:
        """Give rows the vectors that are in memory or in the store; returns the titles of those
        that have none yet, by row."""
        missing = self._catalogue.titles(rows)
        found = titles.known(list(missing.values()))
        self._catalogue.embed(missing, found)
        return {row: title for row, title in missing.items() if title not in found}
