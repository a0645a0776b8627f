"""The repeated work of a thread that must not end, whatever becomes of the store."""

import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.observability import metrics
from app.store.database import reason


class Attempts:
    """Calls work that may fail. The first failure in a row is logged.

    what: the beginning of that line, such as "live figures can't follow the store".
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self.failing = False

    def make(self, work: Callable[[], bool]) -> bool:
        """Whether there is more to do at once; False after a failure."""
        try:
            more = work()
        except Exception as error:  # the thread must not end
            metrics.STORE_FAILURES.inc()
            if not self.failing:
                known = isinstance(error, SQLAlchemyError)
                why = reason(error) if known else repr(error)
                self._logger.warning("%s: %s", self._what, why, exc_info=not known)
            self.failing = True
            return False
        self.failing = False
        return more
