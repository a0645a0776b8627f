"""Log lines that say what start-up is doing and how long each step took."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("frontpage")
REMINDER_S = 8.0


@contextmanager
def step(what: str) -> Iterator[None]:
    """Log the start and end of loading `what`, and a reminder every REMINDER_S in between."""
    started = time.perf_counter()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(REMINDER_S):
            logger.info("  still loading %s (%.0f s)", what, time.perf_counter() - started)

    logger.info("loading %s", what)
    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    logger.info("loaded %s in %.1f s", what, time.perf_counter() - started)
