"""Reports on the models, read from the store."""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.errors import FeedbackUnavailable, InvalidValue
from app.feedback.experiments import read_report
from app.feedback.figures import ExperimentsResponse
from app.feedback.hours import TIMEOUT_S, sum_hours
from app.store.database import reason
from app.store.store import Store

logger = logging.getLogger("frontpage.store")


class Reports:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._reporting = asyncio.Lock()
        store.chores.append(self._sum_hours)

    async def report(
        self, days: float | None = None, since: float | None = None
    ) -> ExperimentsResponse:
        """The figures over the last `days` days, or since `since` (seconds since 1970); by default
        over all answers kept.

        Reports run in a thread, one at a time. Raises InvalidValue if both are given, NotFound or
        FeedbackUnavailable.
        """
        if days is not None and since is not None:
            raise InvalidValue("since: not together with days", "since")
        self._store.check_keeps_answers()
        start = self._store.reads.oldest()
        if days is not None:
            start = max(self._store.database.now() - days * 86400, start)
        if since is not None:
            start = max(since, start)
        async with self._reporting:
            try:
                return await asyncio.to_thread(self._read, start)
            except SQLAlchemyError as error:
                logger.error("experiments can't be read: %s", reason(error))
                raise FeedbackUnavailable("feedback can't be read at the moment") from None

    def _sum_hours(self, stopping: Callable[[], bool]) -> None:
        if self._store.retention.rows:
            sum_hours(self._store.database, self._store.reads.oldest(), stopping)

    def _read(self, since: float) -> ExperimentsResponse:
        with self._store.database.reading(timeout_s=TIMEOUT_S) as connection:
            return read_report(connection, since, self._store.database.now())
