"""Sums over one model's answers and their feedback, from which all figures follow.

Sums over different answers add up, so those of past hours are kept (app/feedback/hours.py).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from app.feedback.intervals import Floats, Moments
from app.store.statements import among, chunks
from app.store.tables import impressions, outcomes

Group = tuple[str, str | None]
"""A model and the alias by which requests named it."""
Feedback = dict[int, list[tuple[int, bool]]]
"""Number of an answer → positions with feedback, and whether they were clicked."""

POSITIONS = 10
"""How many positions have figures of their own; all later ones share one more."""
POSITION_NAMES = [*(str(place + 1) for place in range(POSITIONS)), f"{POSITIONS + 1}+"]
PROBABILITY_STEPS = 10_000
"""Impressions are counted by probability in so many steps, which are later grouped into bins."""
CHUNK_ANSWERS = 5000
"""How many answers are read at once. With 300 stories each, they take some 100 MB."""


@dataclass(slots=True)
class Totals:
    """Sums over one model's answers."""

    answers: int = 0
    stories: int = 0
    with_feedback: int = 0
    clicks: Moments = field(default_factory=Moments)
    positions: list[Moments] = field(
        default_factory=lambda: [Moments() for _ in range(POSITIONS + 1)]
    )
    auc: Moments = field(default_factory=Moments)
    calibration: Moments = field(default_factory=Moments)
    by_step: Floats = field(default_factory=lambda: np.zeros((3, PROBABILITY_STEPS)))
    """[3, PROBABILITY_STEPS]: impressions, sum of probabilities, clicks."""

    @property
    def moments(self) -> list[Moments]:
        return [self.clicks, self.auc, self.calibration, *self.positions]

    def merge(self, other: "Totals") -> None:
        """Add the sums over other answers."""
        self.answers += other.answers
        self.stories += other.stories
        self.with_feedback += other.with_feedback
        for own, more in zip(self.moments, other.moments, strict=True):
            own.merge(more)
        self.by_step += other.by_step


@dataclass(frozen=True, slots=True)
class Chunk:
    """Answers of one model and their feedback. The stories of all answers are concatenated, each
    answer's in the order shown."""

    ranked: NDArray[np.bool_]  # [answers]
    start: NDArray[np.int64]  # [answers] index of the first story
    length: NDArray[np.int64]  # [answers] number of stories
    probability: Floats  # [stories]
    counts: NDArray[np.bool_]  # [stories] whether it is an impression
    click: NDArray[np.int64]  # [clicks] index of the clicked story
    answer: NDArray[np.int64]  # [clicks] index of its answer

    @property
    def clicks(self) -> Floats:
        """The number of clicks in each answer, [answers]."""
        return np.bincount(self.answer, minlength=len(self.ranked)).astype(np.float64)

    def sums(self, of: NDArray[np.bool_] | Floats) -> Floats:
        """Sum values [stories] within each answer; returns [answers]. Every answer has stories."""
        return np.add.reduceat(of, self.start, dtype=np.float64)


def read_totals(
    connection: Connection, start: float, end: float | None = None
) -> dict[Group, Totals]:
    """Sum the answers from `start` to before `end`, in seconds since 1970. Raises SQLAlchemyError.

    connection: a snapshot of the store.
    """
    totals: defaultdict[Group, Totals] = defaultdict(Totals)
    for group, rows, feedback in read_chunks(connection, start, end):
        found = totals[group]
        found.answers += len(rows)
        found.stories += sum(row.stories for row in rows)
        told = [row for row in rows if row.number in feedback]
        if told:
            add(found, chunk(told, feedback))
    return dict(totals)


def read_chunks(
    connection: Connection, start: float, end: float | None
) -> Iterator[tuple[Group, list[Any], Feedback]]:
    """Read answers, CHUNK_ANSWERS at a time, grouped by model and alias, with their feedback."""
    row = impressions.c
    query = select(row.number, row.ranked, row.stories, row.probabilities, row.model, row.alias)
    query = query.where(row.time >= start, row.model.is_not(None)).order_by(row.time)
    if end is not None:
        query = query.where(row.time < end)
    answers = connection.execution_options(yield_per=CHUNK_ANSWERS).execute(query)
    for rows in answers.partitions():
        feedback = read_feedback(connection, [found.number for found in rows])
        groups = defaultdict(list)
        for found in rows:
            groups[found.model, found.alias].append(found)
        for group, members in groups.items():
            yield group, members, feedback


def read_feedback(connection: Connection, numbers: Sequence[int]) -> Feedback:
    columns = outcomes.c.impression, outcomes.c.position, outcomes.c.clicked
    feedback: Feedback = defaultdict(list)
    for part in chunks(numbers):
        for number, position, clicked in connection.execute(
            select(*columns).where(among(outcomes.c.impression, part, connection.dialect))
        ):
            feedback[number].append((position, clicked))
    return feedback


def chunk(rows: Sequence[Any], feedback: Feedback) -> Chunk:
    """Assemble one model's answers, all with feedback, into a Chunk."""
    length = np.array([len(row.probabilities) // 4 for row in rows])
    start = np.cumsum(length) - length
    told = [
        (answer, position, clicked)
        for answer, row in enumerate(rows)
        for position, clicked in feedback[row.number]
    ]
    answer, position, click = np.array(told, dtype=np.int64).T
    story, clicked = start[answer] + position, click > 0
    ranked = np.array([row.ranked for row in rows], dtype=bool)
    counts = np.repeat(ranked, length)
    counts[story] = True
    blobs = b"".join(row.probabilities for row in rows)
    probability = np.frombuffer(blobs, dtype=np.float32).astype(np.float64)
    return Chunk(ranked, start, length, probability, counts, story[clicked], answer[clicked])


def add(totals: Totals, chunk: Chunk) -> None:
    expected = np.where(chunk.counts, chunk.probability, 0)
    totals.with_feedback += len(chunk.ranked)
    totals.clicks.add(chunk.clicks, chunk.sums(chunk.counts))
    totals.calibration.add(chunk.clicks, chunk.sums(expected))
    totals.auc.add(*auc(chunk))
    for moments, top, bottom in zip(totals.positions, *by_position(chunk), strict=True):
        moments.add(top, bottom)
    steps = PROBABILITY_STEPS
    step = np.minimum((chunk.probability * steps).astype(np.int64), steps - 1)
    totals.by_step += [
        np.bincount(step[chunk.counts], minlength=steps),
        np.bincount(step, expected, minlength=steps),
        np.bincount(step[chunk.click], minlength=steps),
    ]


def by_position(chunk: Chunk) -> tuple[Floats, Floats]:
    """Clicks and impressions of ranked answers, both [POSITIONS + 1, answers]. The last row holds
    all later positions."""
    width, answers = POSITIONS + 1, len(chunk.ranked)
    place = np.minimum(chunk.click - chunk.start[chunk.answer], POSITIONS)
    clicks = np.bincount(place * answers + chunk.answer, minlength=width * answers)
    most = np.append(np.ones(POSITIONS), np.inf)
    shown = np.clip(chunk.length - np.arange(width)[:, None], 0, most[:, None])
    ranked = chunk.ranked.astype(np.float64)
    return clicks.reshape(width, answers) * ranked, shown * ranked


def auc(chunk: Chunk) -> tuple[Floats, Floats]:
    """Each answer's AUC, and whether it has one: two arrays [answers]. An answer without clicked or
    without unclicked stories has 0 in both.

    The AUC is the share of (clicked, unclicked) pairs of stories in which the clicked one has the
    higher probability; ties count half. Ranked stories are in descending order of probability.
    """
    clicks, others = chunk.clicks, chunk.length - chunk.clicks
    valid = chunk.ranked & (clicks > 0) & (others > 0)
    # Stories with equal probabilities share the mean of their positions.
    begins = np.append(True, np.diff(chunk.probability) != 0)
    begins[chunk.start] = True
    run = np.append(np.flatnonzero(begins), len(begins))
    after = np.searchsorted(run, chunk.click, side="right")
    position = (run[after - 1] + run[after] - 1) / 2 - chunk.start[chunk.answer]
    above = np.bincount(chunk.answer, position, minlength=len(clicks)) - clicks * (clicks - 1) / 2
    pairs = np.where(valid, clicks * others, 1)
    return np.where(valid, 1 - above / pairs, 0), valid.astype(np.float64)
