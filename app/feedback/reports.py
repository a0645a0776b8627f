"""Reports on the models, read from the store."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from app.errors import FeedbackUnavailable
from app.feedback.experiments import ModelFigures, read_report
from app.store.database import reason
from app.store.store import Store

logger = logging.getLogger("frontpage.store")
TIMEOUT_S = 60.0
"""How many seconds PostgreSQL may take for one statement of a report."""


class Reports:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._reporting = asyncio.Lock()

    async def report(self, days: float | None = None) -> list[ModelFigures]:
        """Each model's figures over the last `days` days; by default over all impressions kept.

        Reports run in a thread, one at a time. Raises NotFound or FeedbackUnavailable.
        """
        self._store.check_keeps_answers()
        oldest = self._store.reads.oldest()
        since = oldest if days is None else max(self._store.database.now() - days * 86400, oldest)
        async with self._reporting:
            try:
                return await asyncio.to_thread(self._read, since)
            except SQLAlchemyError as error:
                logger.error("experiments can't be read: %s", reason(error))
                raise FeedbackUnavailable("feedback can't be read at the moment") from None

    def _read(self, since: float) -> list[ModelFigures]:
        with self._store.database.reading(timeout_s=TIMEOUT_S) as connection:
            return read_report(connection, since)
