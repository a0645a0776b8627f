"""What feedback says of each model: click-through, online AUC, calibration, with 95 % intervals.

What counts. An impression is a story that was shown and whose outcome is known:

- Of an answer of /rank, once it has any feedback, all its stories: those without feedback of their
  own count as not clicked. An answer without feedback does not count at all: nobody can tell
  whether it was shown. So a client should ask with `top_k` for what it shows (stories that nobody
  scrolled to pull the figures down), and send one `"clicked": false` for an answer that was shown
  and ignored (without these, only answers with a click count, which pushes click-through and
  clicks per expected click up, most for the model that is ignored most).
- Of /predict and /predict/batch, where each story stands alone, only those with feedback. They have
  no position and no rank, so they count neither in the positions nor in the AUC.

Readers look at the first places most, so clicks favour the order that a model chose: the online AUC
is above the offline one. It is for comparing models, and so is everything by position. A name that
was given to a new version of an adapter has one set of figures: ask for the days since.

Answers are added up chunk by chunk, so that memory stays small however many are kept.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from app.feedback.intervals import Floats, Interval, Moments

Group = tuple[str, str | None]
"""A model, and the alias it was asked through."""

POSITIONS = 10
"""Those with a figure of their own; one more holds the rest."""
POSITION_NAMES = [*(str(place + 1) for place in range(POSITIONS)), f"{POSITIONS + 1}+"]
BINS = 10
FINE = 10_000
"""Probabilities are counted in steps of 1/FINE, from which the bins are then put together."""
CHUNK = 5000
"""Answers read at once; with 300 stories each, some 100 MB."""


class PositionFigures(BaseModel):
    position: str = Field(description='"1" to "10" in the order shown, "11+" for all later ones')
    impressions: int
    clicks: int
    click_through: Interval | None


class CalibrationBin(BaseModel):
    """Impressions of like probability."""

    impressions: int
    predicted: float = Field(description="mean probability")
    clicked: float = Field(description="share clicked")


class ModelFigures(BaseModel):
    """A figure is null where nothing says anything of it."""

    model: str
    alias: str | None = Field(description="that requests named; null: the model itself")
    answers: int = Field(description="kept, with feedback or without")
    stories: int = Field(description="shown in these")
    answers_with_feedback: int
    impressions: int = Field(
        description="stories of answers of /rank with any feedback; of /predict and /predict/batch,"
        " stories with feedback"
    )
    clicks: int
    click_through: Interval | None
    by_position: list[PositionFigures] = Field(description="answers of /rank only")
    auc_answers: int = Field(description="answers of /rank with clicked and other stories")
    auc: Interval | None = Field(description="mean over these")
    expected_clicks: float = Field(description="sum of the impressions' probabilities")
    clicks_per_expected: Interval | None = Field(description="1: calibrated; above: too modest")
    calibration_error: float | None = Field(
        description="mean over impressions of |predicted - clicked| of their bin; with few"
        " impressions above 0 even for a calibrated model"
    )
    bins: list[CalibrationBin] = Field(description="about as many impressions in each")


class ExperimentsResponse(BaseModel):
    models: list[ModelFigures]


@dataclass(slots=True)
class Totals:
    """What one model's answers add up to."""

    answers: int = 0
    stories: int = 0
    with_feedback: int = 0
    clicks: Moments = field(default_factory=Moments)
    positions: list[Moments] = field(
        default_factory=lambda: [Moments() for _ in range(POSITIONS + 1)]
    )
    auc: Moments = field(default_factory=Moments)
    calibration: Moments = field(default_factory=Moments)
    fine: Floats = field(default_factory=lambda: np.zeros((3, FINE)))
    """[impressions, sum of probabilities, clicks; step]"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Answers of one model, their stories one after the other in the order shown, and feedback."""

    ranked: NDArray[np.bool_]  # [answers]
    start: NDArray[np.int64]  # [answers] place of the first story among all
    length: NDArray[np.int64]  # [answers] stories
    probability: Floats  # [stories]
    counts: NDArray[np.bool_]  # [stories] whether it is an impression
    click: NDArray[np.int64]  # [clicks] place of a clicked story among all
    answer: NDArray[np.int64]  # [clicks] place of its answer

    @property
    def clicks(self) -> Floats:
        """[answers]"""
        return np.bincount(self.answer, minlength=len(self.ranked)).astype(np.float64)

    def sums(self, of: NDArray[np.bool_] | Floats) -> Floats:
        """[stories] → [answers]; no answer is without stories."""
        return np.add.reduceat(of, self.start, dtype=np.float64)


def read_report(file: Path, since: float) -> list[ModelFigures]:
    """Each model's figures, from answers not older than `since` (seconds since 1970).

    Raises sqlite3.Error.
    """
    totals: defaultdict[Group, Totals] = defaultdict(Totals)
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # all that follows sees one state of the file
        for model, alias, answers, stories in connection.execute(
            "SELECT model, alias, count(*), sum(stories) FROM answers WHERE time >= ?"
            " GROUP BY model, alias",
            (since,),
        ):
            totals[model, alias].answers = answers
            totals[model, alias].stories = stories
        for group, chunk in read_chunks(connection, since):
            add(totals[group], chunk)
    ordered = sorted(totals, key=lambda group: (group[0], group[1] or ""))
    return [figures(group, totals[group]) for group in ordered]


def read_chunks(connection: sqlite3.Connection, since: float) -> Iterator[tuple[Group, Chunk]]:
    """The answers with feedback, CHUNK at a time, by model."""
    answers = connection.execute(
        "SELECT number, ranked, probabilities, model, alias"
        " FROM (SELECT DISTINCT answer FROM feedback) JOIN answers ON number = answer"
        " WHERE time >= ? ORDER BY number",
        (since,),
    )
    while rows := answers.fetchmany(CHUNK):
        feedback = np.array(
            connection.execute(
                "SELECT answer, position, clicked FROM feedback WHERE answer BETWEEN ? AND ?",
                (rows[0][0], rows[-1][0]),
            ).fetchall()
        )
        groups = defaultdict(list)
        for row in rows:
            groups[row[3], row[4]].append(row)
        for group, members in groups.items():
            yield group, chunk(members, feedback)


def chunk(
    rows: Sequence[tuple[int, int, bytes, str, str | None]], feedback: NDArray[np.int64]
) -> Chunk:
    """feedback: [rows; answer, position, clicked], those of other answers included."""
    number = np.array([row[0] for row in rows])
    ranked = np.array([row[1] for row in rows], dtype=bool)
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
    step = np.minimum((chunk.probability * FINE).astype(np.int64), FINE - 1)
    totals.fine += [
        np.bincount(step[chunk.counts], minlength=FINE),
        np.bincount(step, expected, minlength=FINE),
        np.bincount(step[chunk.click], minlength=FINE),
    ]


def by_position(chunk: Chunk) -> tuple[Floats, Floats]:
    """Clicks and impressions of ranked answers at each position and at all later ones, both
    [POSITIONS + 1, answers]."""
    width, answers = POSITIONS + 1, len(chunk.ranked)
    place = np.minimum(chunk.click - chunk.start[chunk.answer], POSITIONS)
    clicks = np.bincount(place * answers + chunk.answer, minlength=width * answers)
    most = np.append(np.ones(POSITIONS), np.inf)
    shown = np.clip(chunk.length - np.arange(width)[:, None], 0, most[:, None])
    ranked = chunk.ranked.astype(np.float64)
    return clicks.reshape(width, answers) * ranked, shown * ranked


def auc(chunk: Chunk) -> tuple[Floats, Floats]:
    """Each answer's AUC and 1, or 0 and 0 where it has no clicks or no others: both [answers].

    The share of (click, other) pairs of stories in which the click has the higher probability;
    equal probabilities are half right. Ranked stories come in descending order.
    """
    clicks, others = chunk.clicks, chunk.length - chunk.clicks
    valid = chunk.ranked & (clicks > 0) & (others > 0)
    # Equal probabilities share the mean of their positions.
    begins = np.append(True, np.diff(chunk.probability) != 0)
    begins[chunk.start] = True
    run = np.append(np.flatnonzero(begins), len(begins))
    after = np.searchsorted(run, chunk.click, side="right")
    position = (run[after - 1] + run[after] - 1) / 2 - chunk.start[chunk.answer]
    above = np.bincount(chunk.answer, position, minlength=len(clicks)) - clicks * (clicks - 1) / 2
    pairs = np.where(valid, clicks * others, 1)
    return np.where(valid, 1 - above / pairs, 0), valid.astype(np.float64)


def figures(group: Group, totals: Totals) -> ModelFigures:
    bins = calibration_bins(totals.fine)
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


def calibration_bins(fine: Floats) -> list[CalibrationBin]:
    """At most BINS bins of about as many impressions each, by probability. fine: Totals.fine"""
    below = np.cumsum(fine[0]) - fine[0] / 2
    place = np.minimum(below * BINS / max(fine[0].sum(), 1), BINS - 1).astype(np.int64)
    count, predicted, clicked = (np.bincount(place, row, minlength=BINS) for row in fine)
    return [
        CalibrationBin(impressions=n, predicted=predicted[i] / n, clicked=clicked[i] / n)
        for i, n in enumerate(count)
        if n
    ]
