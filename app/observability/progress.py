"""Say what start-up is doing, and how long each part took."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("frontpage")
EVERY_SECONDS = 10.0


@contextmanager
def step(what: str) -> Iterator[None]:
    """Log the beginning and the end of `what`, and every ten seconds that it is still going on."""
    started = time.perf_counter()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(EVERY_SECONDS):
            logger.info("  still loading %s (%.0f s)", what, time.perf_counter() - started)

    logger.info("loading %s", what)
    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    logger.info("loaded %s in %.1f s", what, time.perf_counter() - started)
