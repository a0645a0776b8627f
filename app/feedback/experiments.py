"""What feedback says about each model: click-through, online AUC and calibration, with 95 %
intervals.

An impression is a story that was shown and whose outcome is known:

- An answer of /rank with any feedback counts with all its stories; those without feedback of their
  own count as not clicked. An answer without feedback does not count, since nobody can tell whether
  it was shown. So a client should use `top_k` to ask only for what it shows, because stories that
  nobody scrolled to lower the figures. It should also send one `"clicked": false` for an answer
  that was shown and ignored. Without these, only answers with a click count, which inflates
  click-through and clicks per expected click, most of all for the model that is ignored most.
- The stories of /predict and /predict/batch are independent, and only those with feedback count.
  They have no position and no rank, so they are left out of the positions and the AUC.

Readers look at the first places most, so clicks favour the order that a model chose, and the online
AUC is higher than the offline one. Use it, like all figures by position, only to compare models.
All versions of an adapter share one set of figures under its name: to see the newest version alone,
ask for the days since it was loaded.

Answers are summed chunk by chunk, so memory stays small however many are kept.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from app.feedback.intervals import Floats, Interval, Moments
from app.store.tables import impressions, outcomes

Group = tuple[str, str | None]
"""A model and the alias by which requests named it."""

POSITIONS = 10
"""How many positions have figures of their own; all later ones share one more."""
POSITION_NAMES = [*(str(place + 1) for place in range(POSITIONS)), f"{POSITIONS + 1}+"]
BINS = 10
PROBABILITY_STEPS = 10_000
"""Impressions are counted by probability in so many steps, which are later grouped into bins."""
CHUNK_ANSWERS = 5000
"""How many answers are read at once. With 300 stories each, they take some 100 MB."""


class PositionFigures(BaseModel):
    position: str = Field(
        description='The position in the order shown, "1" to "10", or "11+" for all later ones.'
    )
    impressions: int
    clicks: int
    click_through: Interval | None


class CalibrationBin(BaseModel):
    """Impressions with similar predicted probabilities."""

    impressions: int
    predicted: float = Field(description="Mean predicted probability.")
    clicked: float = Field(description="Share of the impressions that were clicked.")


class ModelFigures(BaseModel):
    """Figures are null where there is no data for them."""

    model: str
    alias: str | None = Field(
        description="The alias that requests named, or null if they named the model itself."
    )
    answers: int = Field(description="Answers kept, with or without feedback.")
    stories: int = Field(description="Stories shown in these answers.")
    answers_with_feedback: int
    impressions: int = Field(
        description="For /rank, all stories of answers with any feedback. For /predict and"
        " /predict/batch, the stories with feedback."
    )
    clicks: int
    click_through: Interval | None
    by_position: list[PositionFigures] = Field(description="Figures of answers of /rank only.")
    auc_answers: int = Field(
        description="Answers of /rank that have both clicked and unclicked stories."
    )
    auc: Interval | None = Field(description="Mean AUC of these answers.")
    expected_clicks: float = Field(description="Sum of the impressions' predicted probabilities.")
    clicks_per_expected: Interval | None = Field(
        description="Clicks divided by expected clicks. 1 means calibrated; above 1, the model"
        " predicts too few clicks."
    )
    calibration_error: float | None = Field(
        description="Mean over all impressions of |predicted - clicked| of their bin. With few"
        " impressions it is above 0 even for a calibrated model."
    )
    bins: list[CalibrationBin] = Field(
        description="Bins by predicted probability, with about equally many impressions in each."
    )


class ExperimentsResponse(BaseModel):
    models: list[ModelFigures]


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


def read_report(connection: Connection, since: float) -> list[ModelFigures]:
    """Compute each model's figures from the answers since `since` (seconds since 1970).

    connection: a snapshot of the store. Raises SQLAlchemyError.
    """
    totals: defaultdict[Group, Totals] = defaultdict(Totals)
    group = impressions.c.model, impressions.c.alias
    kept = impressions.c.time >= since, impressions.c.model.is_not(None)
    for model, alias, answers, stories in connection.execute(
        select(*group, func.count(), func.sum(impressions.c.stories)).where(*kept).group_by(*group)
    ):
        totals[model, alias].answers = answers
        totals[model, alias].stories = stories
    for found, chunk in read_chunks(connection, since):
        add(totals[found], chunk)
    ordered = sorted(totals, key=lambda group: (group[0], group[1] or ""))
    return [figures(group, totals[group]) for group in ordered]


def read_chunks(connection: Connection, since: float) -> Iterator[tuple[Group, Chunk]]:
    """Read the answers with feedback, CHUNK_ANSWERS at a time, grouped by model and alias."""
    row = impressions.c
    told = select(outcomes.c.impression).where(outcomes.c.impression == row.number).exists()
    answers = connection.execution_options(yield_per=CHUNK_ANSWERS).execute(
        select(row.number, row.ranked, row.probabilities, row.model, row.alias)
        .where(row.time >= since, row.model.is_not(None), told)
        .order_by(row.number)
    )
    for rows in answers.partitions():
        feedback = np.array(
            connection.execute(
                select(outcomes.c.impression, outcomes.c.position, outcomes.c.clicked).where(
                    outcomes.c.impression.between(rows[0].number, rows[-1].number)
                )
            ).all()
        )
        groups = defaultdict(list)
        for found in rows:
            groups[found.model, found.alias].append(found)
        for group, members in groups.items():
            yield group, chunk(members, feedback)


def chunk(rows: Sequence[Any], feedback: NDArray[np.int64]) -> Chunk:
    """Assemble one model's rows into a Chunk.

    feedback: [rows, 3], columns answer, position, clicked; may include rows of other answers.
    """
    number: NDArray[np.int64] = np.array([row[0] for row in rows])
    ranked: NDArray[np.bool_] = np.array([row[1] for row in rows], dtype=bool)
    blobs = [row[2] for row in rows]
    length = np.array([len(blob) // 4 for blob in blobs])
    start = np.cumsum(length) - length
    own = feedback[np.isin(feedback[:, 0], number)]
    answer = np.searchsorted(number, own[:, 0])
    story, clicked = start[answer] + own[:, 1], own[:, 2] > 0
    counts = np.repeat(ranked, length)
    counts[story] = True
    probability = np.frombuffer(b"".join(blobs), dtype=np.float32).astype(np.float64)
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


def figures(group: Group, totals: Totals) -> ModelFigures:
    bins = calibration_bins(totals.by_step)
    impressions = int(totals.clicks.bottom)
    gaps = sum(bin.impressions * abs(bin.predicted - bin.clicked) for bin in bins)
    return ModelFigures(
        model=group[0],
        alias=group[1],
        answers=totals.answers,
        stories=totals.stories,
        answers_with_feedback=totals.with_feedback,
        impressions=impressions,
        clicks=int(totals.clicks.top),
        click_through=totals.clicks.share(),
        by_position=[
            PositionFigures(
                position=name,
                impressions=int(at.bottom),
                clicks=int(at.top),
                click_through=at.share(),
            )
            for name, at in zip(POSITION_NAMES, totals.positions, strict=True)
        ],
        auc_answers=int(totals.auc.count),
        auc=totals.auc.share(),
        expected_clicks=totals.calibration.bottom,
        clicks_per_expected=totals.calibration.rate(),
        calibration_error=gaps / impressions if impressions else None,
        bins=bins,
    )


def calibration_bins(by_step: Floats) -> list[CalibrationBin]:
    """Group Totals.by_step into at most BINS bins of about equally many impressions."""
    below = np.cumsum(by_step[0]) - by_step[0] / 2
    place = np.minimum(below * BINS / max(by_step[0].sum(), 1), BINS - 1).astype(np.int64)
    count, predicted, clicked = (np.bincount(place, row, minlength=BINS) for row in by_step)
    return [
        CalibrationBin(impressions=n, predicted=predicted[i] / n, clicked=clicked[i] / n)
        for i, n in enumerate(count)
        if n
    ]
