"""Which answers were clicked: kept in SQLite, without titles and without readers.

One thread owns the writing connection. Answers and feedback reach it through one queue, in order,
so that feedback finds an answer given a moment before; feedback is answered once it is committed.

- An id names its newest answer: a client that sends its own X-Request-Id again replaces the earlier
  answer and its feedback.
- Several services may share the file. Another one's answer is found once it is committed, which
  takes about LINGER_S.
- A kill loses the answers that are not yet committed (of LINGER_S), and no feedback.
- A disk that fails costs the answers of that time and gives feedback a 503; nothing else notices.
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
from app.feedback.tables import INSERT, Given, join, open_store, trim
from app.observability import metrics

logger = logging.getLogger("frontpage.feedback")

QUEUED = 10_000
"""Answers and feedback that may wait for the disk: with 300 stories each about 20 MB."""
BATCH = 1000
LINGER_S = 0.05
"""How long answers gather for one commit; feedback does not wait for it."""
IDLE_S = 60.0
"""Without traffic, old answers are deleted this often."""
NOT_NOW = "feedback can't be kept at the moment"


@dataclass(frozen=True, slots=True)
class Click:
    """Feedback, and where its sender waits for the name of the model that gave the answer."""

    id: str
    index: int
    clicked: bool
    model: Future[str] = field(default_factory=Future)


class FeedbackStore:
    """days, answers: how long and how many are kept at most; 0 answers: feedback is off."""

    def __init__(self, file: Path, days: float, answers: int) -> None:
        self.file = file
        self.seconds = days * 86400
        self.answers = answers
        self._queue: SimpleQueue[Given | Click | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._writer: threading.Thread | None = None
        self._failing = False
        self._reporting = asyncio.Lock()

    def start(self) -> None:
        """Open or create the file; started already, change nothing. Raises StartupError."""
        if not self.answers or self._writer:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = open_store(self.file)
        except (sqlite3.Error, OSError) as error:
            raise StartupError(
                f"feedback can't be kept in {self.file}: {error}; FRONTPAGE_STATE names the folder,"
                " FRONTPAGE_FEEDBACK_ANSWERS=0 goes without"
            ) from None
        self._writer = threading.Thread(target=self._write_until_stop, name="feedback", daemon=True)
        self._writer.start()

    def stop(self) -> None:
        """Commit what waits, and close."""
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
        """Remember an answer. Never waits: with a full queue, the answer is dropped and counted.

        probabilities: [stories of the request].
        order: places in the request of those shown, the best first; None: each stands alone.
        """
        if not self.answers:
            return
        if self._queue.qsize() >= QUEUED:
            metrics.FEEDBACK_DROPPED.inc()
            return
        shown = range(len(probabilities)) if order is None else order
        by_position = array("f", [probabilities[index] for index in shown])
        self._queue.put(
            Given(
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
        """Join feedback to the story at that place in the answer's request; gives the model's name.

        Raises NotFound, InvalidValue for a story that was not shown, FeedbackUnavailable.
        """
        self._check_on()
        if self._writer is None or self._queue.qsize() >= QUEUED:
            raise FeedbackUnavailable(NOT_NOW)
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
        """Each model's figures over the last `days`, default: over all that is kept.

        One at a time, in a thread. Raises NotFound, FeedbackUnavailable.
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

    def _next_batch(self) -> tuple[list[Given | Click], bool]:
        """What to write together, and whether it is the last."""
        batch: list[Given | Click] = []
        try:
            item = self._queue.get(timeout=IDLE_S)
            if self._queue.qsize() < BATCH:
                self._hurry.wait(LINGER_S)
            self._hurry.clear()
            while item is not None:
                # A sender that left before its turn is not waiting any more.
                if isinstance(item, Given) or item.model.set_running_or_notify_cancel():
                    batch.append(item)
                if len(batch) >= BATCH:
                    return batch, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[Given | Click]) -> list[tuple[Click, str | ClientError]]:
        """One transaction: all of the batch, then the deletion of what is too old or too much."""
        oldest = time.time() - self.seconds
        outcomes = []
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for item in batch:
                if isinstance(item, Given):
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

    def _fail(self, batch: list[Given | Click], error: sqlite3.Error) -> None:
        """Logged once for a whole outage; the metric counts what it costs."""
        if not self._failing:
            self._failing = True
            logger.error("feedback can't be kept in %s: %s", self.file, error)
        for item in batch:
            if isinstance(item, Given):
                metrics.FEEDBACK_DROPPED.inc()
            else:
                item.model.set_exception(FeedbackUnavailable(NOT_NOW))
