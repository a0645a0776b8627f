"""One thread that writes to the store, in batches and in the order in which items were queued.

- What somebody waits for (feedback, events, stories) is acknowledged once it is committed, or fails
  with StoreUnavailable. Sending it again does no harm, because everything has an id.
- Nobody waits for answers to be kept. While the store fails, they stay queued, up to MAX_QUEUED;
  further ones are dropped and counted.
- If a batch fails for a reason that is not the store's, or because another instance wrote the same
  rows in another order, its items are written one by one.
- Tasks of many rows come after answers and feedback, and one at a time, so that feedback waits for
  two of them at most.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)

from app.errors import StoreUnavailable
from app.observability import metrics
from app.store.database import Database, is_conflict, reason
from app.store.records import Answer, Feedback

logger = logging.getLogger("frontpage.store")

MAX_QUEUED = 10_000
"""How many answers and other items may wait for the store. With 300 stories each, about 20 MB."""
MAX_QUEUED_BYTES = 256 << 20
"""How much memory the stories of remembered answers may take while they wait for the store."""
MAX_BATCH = 1000
MAX_ROWS = 1000
"""Tasks share a transaction while they write no more rows than this together."""
TRIES = 5
"""How often an item is written if other instances write the same rows at the same time."""
LINGER_S = 0.05
"""How many seconds answers are collected for one commit; what somebody waits for starts it at
once."""
RETRY_S = 0.5
"""How many seconds to wait after a failure with nobody waiting."""
STOP_S = 10.0
"""How many seconds `stop` waits for the last commit."""
UNAVAILABLE = "the store can't be written at the moment"


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work for the writer that somebody waits for. rows: how many it writes, about."""

    work: Callable[[Connection], Any]
    rows: int = 1
    result: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class FeedbackTask:
    """Feedback is written many at a time."""

    feedback: Feedback
    result: Future[Any] = field(default_factory=Future)


Item = Answer | FeedbackTask | Task
WriteAnswers = Callable[[Connection, list[Answer]], None]
WriteFeedback = Callable[[Connection, list[Feedback]], list[Any]]


class Writer:
    def __init__(
        self, database: Database, write_answers: WriteAnswers, write_feedback: WriteFeedback
    ) -> None:
        self._database = database
        self._write_answers = write_answers
        self._write_feedback = write_feedback
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._waiting: deque[Answer | FeedbackTask] = deque()
        self._tasks: deque[Task] = deque()
        """What comes before the queue: taken from it, but not written yet."""
        self._bytes = 0
        self._counting = threading.Lock()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False
        self.writing = False

    @property
    def running(self) -> bool:
        return self._thread is not None

    @property
    def full(self) -> bool:
        queued = self._queue.qsize() + len(self._waiting) + len(self._tasks)
        return queued >= MAX_QUEUED or self._bytes >= MAX_QUEUED_BYTES

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit everything that is queued, if the store lets us within STOP_S."""
        if self._thread:
            self._queue.put(None)
            self._hurry.set()
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                logger.error("the store did not take the last answers within %.0f s", STOP_S)
            self._thread = None

    def add(self, answer: Answer) -> None:
        """Queue an answer. Never blocks: if the queue is full, it is dropped and counted."""
        if self.full:
            metrics.FEEDBACK_DROPPED.inc()
        else:
            self._count(answer.size)
            self._queue.put(answer)

    def submit(self, task: Task | FeedbackTask) -> Future[Any]:
        """Queue what somebody waits for. Raises StoreUnavailable if the queue is full."""
        if not self.running or self.full:
            raise StoreUnavailable(UNAVAILABLE)
        self._queue.put(task)
        self._hurry.set()
        return task.result

    def _count(self, size: int) -> None:
        with self._counting:
            self._bytes += size

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._write(batch)
            if self._failing and not last:
                self._hurry.wait(RETRY_S)

    def _next_batch(self) -> tuple[list[Item], bool]:
        """The next items to write in one transaction, and whether they are the last."""
        last = False
        if not self._waiting and not self._tasks:
            item = self._queue.get()
            if item is None:
                return [], True
            self._line_up(item)
            if self._queue.qsize() < MAX_BATCH:
                self._hurry.wait(LINGER_S)
        self._hurry.clear()
        with suppress(Empty):
            while not last and len(self._waiting) + len(self._tasks) < MAX_QUEUED:
                item = self._queue.get_nowait()
                if item is None:
                    last = True
                else:
                    self._line_up(item)
        batch = [*self._next_small(), *self._next_tasks()]
        if last and (self._waiting or self._tasks):
            self._queue.put(None)
            last = False
        return batch, last

    def _line_up(self, item: Item) -> None:
        if isinstance(item, Task):
            self._tasks.append(item)
        else:
            self._waiting.append(item)

    def _next_small(self) -> Iterator[Answer | FeedbackTask]:
        for _ in range(min(len(self._waiting), MAX_BATCH)):
            item = self._waiting.popleft()
            if isinstance(item, Answer):
                self._count(-item.size)
                yield item
            elif item.result.set_running_or_notify_cancel():  # else nobody waits for it any more
                yield item

    def _next_tasks(self) -> Iterator[Task]:
        rows = 0
        while self._tasks and (not rows or rows + self._tasks[0].rows <= MAX_ROWS):
            task = self._tasks.popleft()
            if task.result.set_running_or_notify_cancel():
                rows += task.rows
                yield task

    def _write(self, batch: list[Item], tries: int = TRIES) -> None:
        started = time.perf_counter()
        self.writing = True
        try:
            with self._database.writing() as connection:
                done = self._apply(connection, batch)
        except Exception as error:
            conflict = tries > 1 and is_conflict(error)
            if is_outage(error) and not conflict:
                self._postpone(batch, error)
            elif len(batch) > 1:
                for item in batch:
                    self._write([item])
            elif conflict:
                self._write(batch, tries - 1)
            else:
                self._give_up(batch[0], error)
            return
        finally:
            self.writing = False
        metrics.STORE_WRITE.observe(time.perf_counter() - started)
        self._recovered()
        for future, outcome in done:
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _apply(self, connection: Connection, batch: list[Item]) -> list[tuple[Future[Any], Any]]:
        """Write the batch. Answers come first, so that feedback finds them. Of several with the
        same id the last counts."""
        answers = list({item.id: item for item in batch if isinstance(item, Answer)}.values())
        feedback = [item for item in batch if isinstance(item, FeedbackTask)]
        if answers:
            self._write_answers(connection, answers)
        done: list[tuple[Future[Any], Any]] = []
        if feedback:
            outcomes = self._write_feedback(connection, [item.feedback for item in feedback])
            done += [(item.result, one) for item, one in zip(feedback, outcomes, strict=True)]
        for item in batch:
            if isinstance(item, Task):
                done.append((item.result, item.work(connection)))
        return done

    def _postpone(self, batch: list[Item], error: Exception) -> None:
        """The store is away: those who wait are told, and answers are kept for the next try."""
        if not self._failing:
            logger.error("the store fails: %s", reason(error))
        self._failing = True
        metrics.STORE_UP.set(0)
        metrics.STORE_FAILURES.inc()
        answers = [item for item in batch if isinstance(item, Answer)]
        self._waiting.extendleft(reversed(answers))
        self._count(sum(answer.size for answer in answers))
        for item in batch:
            if not isinstance(item, Answer):
                item.result.set_exception(StoreUnavailable(UNAVAILABLE))

    def _recovered(self) -> None:
        if self._failing:
            logger.warning("the store works again")
            self._failing = False
        metrics.STORE_UP.set(1)

    def _give_up(self, item: Item, error: Exception) -> None:
        logger.error("the store refuses an item: %s", reason(error))
        metrics.STORE_FAILURES.inc()
        if isinstance(item, Answer):
            metrics.FEEDBACK_DROPPED.inc()
        else:
            item.result.set_exception(StoreUnavailable(UNAVAILABLE))


def is_outage(error: Exception) -> bool:
    """Whether another try of the same may succeed: the database is away, locked or full."""
    if isinstance(error, DBAPIError):
        lost = OperationalError, InterfaceError, InternalError
        return isinstance(error, lost) or error.connection_invalidated
    return isinstance(error, SQLAlchemyError | OSError)  # such as the pool's timeout
