"""The threads that embed titles, for all encoders."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

from app.store.store import Store
from app.store.threads import DaemonThreads

logger = logging.getLogger("frontpage.knowledge")

MAX_WAITING = 50_000
"""How many titles wait at most for what nobody waits for. Further ones are computed when requests
need them, and again after a restart."""
NICENESS = 10
STOP_S = 5.0
"""How many seconds `stop` waits for vectors to be stored, and for an encoder to be loaded."""


LOADING = threading.Lock()
"""Held while an encoder is loaded. transformers replaces its own functions meanwhile; when two
threads of a process do so at once, they may stay replaced, and later models are loaded wrongly."""


class Threads:
    """requests: for titles that requests wait for. large: the same for requests with many, at low
    priority, so that the engine's other requests stay fast. later: for all else."""

    requests: DaemonThreads
    large: DaemonThreads
    later: "Later"

    def __init__(self, store: Store) -> None:
        self.store = store

    def start(self) -> None:
        self.requests = DaemonThreads(1, "embed")
        self.large = DaemonThreads(1, "embed-large")
        self.large.submit(lower_priority)
        self.later = Later()

    def stop(self) -> None:
        self.requests.stop()
        self.large.stop()
        self.later.stop()
        if LOADING.acquire(timeout=STOP_S):  # nothing is loaded any more after this
            LOADING.release()


class Later:
    """One thread of low priority."""

    def __init__(self) -> None:
        self._threads = DaemonThreads(1, "embed-later")
        self._last: Future[Any] = self._threads.submit(lower_priority)
        self.waiting = 0  # titles
        self._counting = threading.Lock()
        self._stopping = False

    def announce(self, work: Callable[[], object], titles: int) -> None:
        """Do this when there is time, unless too much is waiting. A stop drops it."""
        self._submit(lambda: None if self._stopping else work(), titles)

    def keep(self, work: Callable[[], object], titles: int) -> None:
        """The same for what a stop waits for."""
        self._submit(work, titles)

    def stop(self) -> None:
        """Drop what was announced, and wait for STOP_S at most until the rest is done."""
        self._stopping = True
        wait_for([self._last], STOP_S)
        self._threads.stop()

    def _submit(self, work: Callable[[], object], titles: int) -> None:
        with self._counting:
            if self.waiting + titles > MAX_WAITING:
                return
            self.waiting += titles
        self._last = self._threads.submit(lambda: self._do(work, titles))

    def _do(self, work: Callable[[], object], titles: int) -> None:
        try:
            work()
        except Exception:
            logger.exception("titles can't be embedded or stored")
        finally:
            with self._counting:
                self.waiting -= titles


def lower_priority() -> None:
    """Of the thread that calls this; a process's threads have their own on Linux."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
