"""The store of answers and clicks: a SQLite file, without titles and without readers.

One thread owns the writing connection. Answers and feedback reach it through one queue, in order,
so that feedback finds an answer given a moment before. Feedback is acknowledged once committed.

- An id names its newest answer: a client that reuses its own X-Request-Id replaces the earlier
  answer and its feedback.
- Several services may share the file. The answers of another service are found once it has
  committed them, which takes about LINGER_S.
- A kill loses the answers not yet committed (those of the last LINGER_S), but no feedback.
- While the disk fails, answers are lost and feedback gets a 503; nothing else is affected.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from array import array
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from app.errors import ClientError, FeedbackUnavailable, NotFound, StartupError
from app.feedback.experiments import ModelFigures, read_report
from app.feedback.tables import INSERT, AnswerRow, join, open_store, trim
from app.observability import metrics

logger = logging.getLogger("frontpage.feedback")

MAX_QUEUED = 10_000
"""How many answers and feedback items may wait for the disk. With 300 stories each, about 20 MB."""
MAX_BATCH = 1000
LINGER_S = 0.05
"""How many seconds answers are collected for one commit; feedback does not wait for it."""
IDLE_TRIM_S = 60.0
"""How often, in seconds, old answers are deleted while there is no traffic."""
CANNOT_KEEP = "feedback can't be kept at the moment"


@dataclass(frozen=True, slots=True)
class Click:
    """One item of feedback. `model` resolves to the name of the model that gave the answer."""

    id: str
    index: int
    clicked: bool
    model: Future[str] = field(default_factory=Future)


class FeedbackStore:
    """Keeps answers for `days` days, and at most `answers` of them; with 0, feedback is off."""

    def __init__(self, file: Path, days: float, answers: int) -> None:
        self.file = file
        self.seconds = days * 86400
        self.answers = answers
        self._queue: SimpleQueue[AnswerRow | Click | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._writer: threading.Thread | None = None
        self._failing = False
        self._reporting = asyncio.Lock()

    def start(self) -> None:
        """Open or create the file. A second call has no effect. Raises StartupError."""
        if not self.answers or self._writer:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = open_store(self.file)
        except (sqlite3.Error, OSError) as error:
            raise StartupError(
                f"feedback can't be kept in {self.file}: {error}; FRONTPAGE_STATE sets the folder,"
                " FRONTPAGE_FEEDBACK_ANSWERS=0 turns feedback off"
            ) from None
        self._writer = threading.Thread(target=self._write_until_stop, name="feedback", daemon=True)
        self._writer.start()

    def stop(self) -> None:
        """Commit everything that is queued and close the file."""
        if self._writer:
            self._queue.put(None)
            self._hurry.set()
            self._writer.join()
            self._writer = None
            self._connection.close()

    def keep(
        self,
        answer_id: str,
        model: str,
        alias: str | None,
        probabilities: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> None:
        """Queue an answer to be kept. Never blocks: if the queue is full, the answer is dropped and
        counted.

        probabilities: of all stories, in the request's order. order: the indices of the stories
        shown, the best first, or None if the stories are not ranked.
        """
        if not self.answers:
            return
        if self._queue.qsize() >= MAX_QUEUED:
            metrics.FEEDBACK_DROPPED.inc()
            return
        shown = range(len(probabilities)) if order is None else order
        by_position = array("f", [probabilities[index] for index in shown])
        self._queue.put(
            AnswerRow(
                answer_id,
                time.time(),
                model,
                alias,
                order is not None,
                len(shown),
                array("H", shown).tobytes(),
                by_position.tobytes(),
            )
        )

    async def record(self, answer_id: str, index: int, clicked: bool) -> str:
        """Record feedback for the story at `index` in the request; returns the answer's model.

        Raises NotFound, InvalidValue for a story that was not shown, or FeedbackUnavailable.
        """
        self._check_on()
        if self._writer is None or self._queue.qsize() >= MAX_QUEUED:
            raise FeedbackUnavailable(CANNOT_KEEP)
        click = Click(answer_id, index, clicked)
        self._queue.put(click)
        self._hurry.set()
        try:
            model = await asyncio.wrap_future(click.model)
        except NotFound:
            metrics.FEEDBACK_UNKNOWN.inc()
            raise
        metrics.FEEDBACK.labels(model, str(clicked).lower()).inc()
        return model

    async def report(self, days: float | None = None) -> list[ModelFigures]:
        """Each model's figures over the last `days` days; by default over all answers kept.

        Reports run in a thread, one at a time. Raises NotFound or FeedbackUnavailable.
        """
        self._check_on()
        since = time.time() - (self.seconds if days is None else min(days * 86400, self.seconds))
        async with self._reporting:
            try:
                return await asyncio.to_thread(read_report, self.file, since)
            except sqlite3.Error as error:
                logger.error("experiments can't be read from %s: %s", self.file, error)
                raise FeedbackUnavailable("feedback can't be read at the moment") from None

    def _check_on(self) -> None:
        if not self.answers:
            raise NotFound("feedback is off in this service: feedback_answers is 0")

    def _write_until_stop(self) -> None:
        while True:
            batch, last = self._next_batch()
            try:
                outcomes = self._write(batch)
            except sqlite3.Error as error:
                self._fail(batch, error)
            else:
                self._succeed(outcomes)
            if last:
                return

    def _next_batch(self) -> tuple[list[AnswerRow | Click], bool]:
        """The next items to write in one transaction, and whether they are the last."""
        batch: list[AnswerRow | Click] = []
        try:
            item = self._queue.get(timeout=IDLE_TRIM_S)
            if self._queue.qsize() < MAX_BATCH:
                self._hurry.wait(LINGER_S)
            self._hurry.clear()
            while item is not None:
                # Feedback whose sender has left in the meantime is dropped.
                if isinstance(item, AnswerRow) or item.model.set_running_or_notify_cancel():
                    batch.append(item)
                if len(batch) >= MAX_BATCH:
                    return batch, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[AnswerRow | Click]) -> list[tuple[Click, str | ClientError]]:
        """In one transaction, write the batch and delete answers that are too old or too many."""
        oldest = time.time() - self.seconds
        outcomes = []
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for item in batch:
                if isinstance(item, AnswerRow):
                    self._connection.execute(INSERT, item)
                else:
                    model = join(self._connection, item.id, item.index, item.clicked, oldest)
                    outcomes.append((item, model))
            trim(self._connection, oldest, self.answers)
        return outcomes

    def _succeed(self, outcomes: list[tuple[Click, str | ClientError]]) -> None:
        if self._failing:
            self._failing = False
            logger.warning("feedback is kept in %s again", self.file)
        for click, outcome in outcomes:
            if isinstance(outcome, ClientError):
                click.model.set_exception(outcome)
            else:
                click.model.set_result(outcome)

    def _fail(self, batch: list[AnswerRow | Click], error: sqlite3.Error) -> None:
        """Log an outage once; the metric counts the answers that it costs."""
        if not self._failing:
            self._failing = True
            logger.error("feedback can't be kept in %s: %s", self.file, error)
        for item in batch:
            if isinstance(item, AnswerRow):
                metrics.FEEDBACK_DROPPED.inc()
            else:
                item.model.set_exception(FeedbackUnavailable(CANNOT_KEEP))
