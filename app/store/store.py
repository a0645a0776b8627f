"""The store as the service uses it; nothing here blocks the event loop.

Writes go through one thread (app/store/writer.py), reads through a few others (app/store/reads.py).
"""

import asyncio
import logging
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.errors import FeedbackUnavailable, NotFound, StartupError, StoreUnavailable
from app.observability import metrics
from app.store.adoption import adopt_feedback
from app.store.database import Database, reason
from app.store.desired import DesiredState
from app.store.events import add_events
from app.store.reads import Reads
from app.store.records import (
    Accepted,
    Answer,
    ClickEvent,
    Feedback,
    ImpressionEvent,
    ReaderKey,
    Remembered,
    StoredStory,
)
from app.store.retention import Erased, Retention, erase_reader, erase_story, trim
from app.store.statements import execute, insert
from app.store.tables import erasures
from app.store.writer import STOP_S, FeedbackTask, Task, Writer
from app.store.writing import keep_answers, put_stories, record_feedback

logger = logging.getLogger("frontpage.store")

Value = TypeVar("Value")

ACKNOWLEDGE_S = 10.0
"""How many seconds a request waits for its commit before it gets a 503."""
LATE_S = (0.1, 0.4)
"""For how many seconds feedback waits before it looks again for an answer that is not there:
another instance may have given it a moment ago and not committed it yet."""
ERASURE_COLUMNS = ("reader", "time")
LEARNED_AT_ONCE = 1000
"""How many stories are noted without a pause for other requests."""
TRIM_S = 60.0
"""Seconds between two passes that delete what is too old or too many."""
CHORES_S = 60.0
"""Further work ends so many seconds after its pass began, and goes on after the next one."""


class Store:
    """remember: keep what requests carry, too: titles, hashes of reader ids, histories.
    former_file: where earlier versions kept feedback, which is taken over at the start."""

    def __init__(
        self,
        database: Database,
        retention: Retention,
        key: ReaderKey,
        remember: bool = False,
        former_file: Path | None = None,
    ) -> None:
        self.database = database
        self.retention = retention
        self.remember = remember
        self.key = key
        self.former_file = former_file
        self._writer = Writer(database, self._keep_answers, self._record_feedback)
        self.reads = Reads(database, key, retention)
        self.desired = DesiredState(database)
        self._stopping = threading.Event()
        self.chores: list[Callable[[Callable[[], bool]], None]] = []
        """Further work after each pass that deletes, which ends early once its argument says so."""

    # Start and stop

    def start(self) -> None:
        """Open the database. A second call has no effect. Raises StartupError."""
        if self._writer.running:
            return
        self.database.open()
        if self.former_file is not None:
            try:
                adopt_feedback(self.database, self.former_file)
            except StartupError:
                self.database.close()
                raise
        self._stopping.clear()
        self.reads.start()
        self.desired.start()
        self._writer.start()
        self._trimmer = threading.Thread(
            target=self._trim_until_stop, name="store-trim", daemon=True
        )
        self._trimmer.start()

    def stop(self) -> None:
        """Commit everything that is queued, and close the database."""
        self._stopping.set()
        if self._writer.running:
            self._writer.stop()
            self._trimmer.join(STOP_S)
            self.reads.stop()
            self.desired.stop()
            self.database.close()

    # Writing

    @property
    def accepts_answers(self) -> bool:
        return not self._writer.full

    def keep(
        self,
        answer_id: str,
        model: str,
        alias: str | None,
        probabilities: Sequence[float],
        order: Sequence[int] | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        """Queue an answer to be kept. Never blocks: if the queue is full, the answer is dropped and
        counted.

        probabilities: of all stories, in the request's order. order: the indices of the stories
        shown, the best first, or None if the stories are not ranked. remembered: what the request
        carried, with its stories in the order shown; unless the service remembers, only their ids
        are kept.
        """
        if not self.retention.rows or not self._writer.running:
            return
        shown = range(len(probabilities)) if order is None else order
        self._writer.add(
            Answer(
                answer_id,
                self.database.now(),
                model,
                alias,
                order is not None,
                len(shown),
                array("H", shown).tobytes(),
                array("f", [probabilities[index] for index in shown]).tobytes(),
                None if remembered is None else [story.id for story in remembered.shown],
                remembered if self.remember else None,
            )
        )

    async def record(
        self, answer_id: str, index: int, clicked: bool, sender: str | None = None
    ) -> str:
        """Record feedback for the story at `index` in the request; returns the answer's model.
        sender: the name of the API key that reports it.

        Raises NotFound, InvalidValue for a story that was not shown, or FeedbackUnavailable.
        """
        self.check_keeps_answers()
        task = Feedback(answer_id, index, clicked, sender)
        for pause_s in (*LATE_S, None):
            try:
                model = str(await self._done(FeedbackTask(task)))
                break
            except StoreUnavailable:
                raise FeedbackUnavailable("feedback can't be kept at the moment") from None
            except NotFound:
                if pause_s is None:
                    metrics.FEEDBACK_UNKNOWN.inc()
                    raise
                await asyncio.sleep(pause_s)
        metrics.FEEDBACK.labels(model, str(clicked).lower()).inc()
        return model

    async def put_stories(self, stories: Sequence[StoredStory]) -> int:
        """Store stories; returns how many different ones. Raises StoreUnavailable."""
        written: int = await self._work(
            lambda connection: put_stories(connection, stories, self.database.now()), len(stories)
        )
        for number, story in enumerate(stories, start=1):
            self.reads.learn(story)
            if number % LEARNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return written

    async def add_events(
        self,
        shown: Sequence[ImpressionEvent],
        clicked: Sequence[ClickEvent],
        sender: str | None = None,
    ) -> Accepted:
        """Store all events or none; those with known ids are counted as duplicates. sender: the
        name of the API key that reports them.

        Raises StoreUnavailable.
        """
        found: Accepted = await self._work(
            lambda connection: add_events(
                connection, shown, clicked, self.key, self.database.now(), sender
            ),
            len(shown) + len(clicked),
        )
        for event in clicked:
            if event.reader_id is not None:
                self.reads.outdate_reader(event.reader_id)
        metrics.observe_events("impression", found.impressions, len(shown))
        metrics.observe_events("click", found.clicks, len(clicked))
        return found

    # Erasing

    async def erase_reader(self, reader_id: str) -> Erased:
        """Delete all that is kept about a reader, here and, with the next retention pass, what
        other instances have queued. Raises StoreUnavailable."""
        reader, now = self.key.hash(reader_id), self.database.now()
        statement = insert(erasures, self.database.dialect, ERASURE_COLUMNS)
        statement = statement.on_conflict_do_update(
            index_elements=[erasures.c.reader], set_={"time": statement.excluded.time}
        )
        await self._work(
            lambda connection: execute(connection, statement, [{"reader": reader, "time": now}])
        )
        erased = await self._erase(lambda: erase_reader(self.database, reader))
        self.reads.forget_reader(reader_id)
        return erased

    async def erase_story(self, story: str) -> Erased:
        """Delete a story and the clicks on it. Raises NotFound or StoreUnavailable."""
        found = await self._erase(lambda: erase_story(self.database, story))
        self.reads.forget_story(story)
        if not found.stories and not found.clicks:
            raise NotFound(f"no story {story!r} is stored", "id")
        return found

    # Inside

    def _keep_answers(self, connection: Connection, answers: list[Answer]) -> None:
        keep_answers(connection, answers, self.key, self.database.now())

    def _record_feedback(self, connection: Connection, items: list[Feedback]) -> list[object]:
        return [*record_feedback(connection, items, self.reads.oldest(), self.database.now())]

    def check_keeps_answers(self) -> None:
        if not self.retention.rows:
            raise NotFound("feedback is off in this service: feedback_answers is 0")

    async def _work(self, work: Callable[[Connection], Value], rows: int = 1) -> Value:
        return cast(Value, await self._done(Task(work, rows)))

    async def _done(self, task: Task | FeedbackTask) -> object:
        """Wait until a task is committed. Raises StoreUnavailable, and what the task raises."""
        future = asyncio.wrap_future(self._writer.submit(task))
        try:
            async with asyncio.timeout(ACKNOWLEDGE_S):
                return await future
        except TimeoutError:
            raise StoreUnavailable("the store does not answer") from None

    async def _erase(self, work: Callable[[], Erased]) -> Erased:
        try:
            return await asyncio.to_thread(work)
        except SQLAlchemyError as error:
            logger.error("the store can't erase: %s", reason(error))
            raise StoreUnavailable("the store can't be written at the moment") from None

    def _tidy(self) -> None:
        enough = time.monotonic() + CHORES_S
        self.database.measure_clock()
        self.reads.erased = trim(self.database, self.retention)
        for chore in self.chores:
            chore(lambda: self._stopping.is_set() or time.monotonic() > enough)

    def _trim_until_stop(self) -> None:
        while not self._stopping.wait(TRIM_S):
            try:
                self._tidy()
            except SQLAlchemyError as error:
                logger.error("the store can't be tidied: %s", reason(error))
            except Exception:  # a fault of ours must not end the retention
                logger.exception("the store can't be tidied")
