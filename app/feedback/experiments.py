"""What feedback says about each model: click-through, online AUC and calibration, with 95 %
intervals, and how the models of an alias differ.

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

Answers are summed chunk by chunk, so memory stays small however many are kept, and sums over past
hours are kept (app/feedback/hours.py), so that a report is quick.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import combinations

import numpy as np
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from app.feedback.differences import Difference, compare
from app.feedback.hours import DAY_S, merge, read_parts
from app.feedback.intervals import Floats, Interval, Moments
from app.feedback.totals import POSITION_NAMES, Group, Totals

BINS = 10
Days = Mapping[int, Moments]
"""Clicks and impressions by the day, counted from 1970."""


class PositionFigures(BaseModel):
    position: str = Field(
        description='The position in the order shown, "1" to "10", or "11+" for all later ones.'
    )
    impressions: int
    clicks: int
    click_through: Interval | None


class DayFigures(BaseModel):
    day: date = Field(description="In UTC, when the answers were given.")
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
    by_day: list[DayFigures] = Field(description="Days with impressions, the oldest first.")
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


class ModelDifference(BaseModel):
    """How two models of one alias differ: figures of `model` minus those of `other`."""

    alias: str
    model: str
    other: str
    click_through: Difference | None
    auc: Difference | None


class ExperimentsResponse(BaseModel):
    models: list[ModelFigures]
    differences: list[ModelDifference] = Field(
        description="Each pair of models of one alias, whose readers are split at random."
    )


def read_report(connection: Connection, since: float, now: float) -> ExperimentsResponse:
    """Compute the figures of all answers since `since`. Both times are in seconds since 1970.

    connection: a snapshot of the store. Raises SQLAlchemyError.
    """
    totals: defaultdict[Group, Totals] = defaultdict(Totals)
    days: defaultdict[Group, defaultdict[int, Moments]] = defaultdict(lambda: defaultdict(Moments))
    for start, part in read_parts(connection, since, now):
        merge(totals, part)
        for group, found in part.items():
            days[group][int(start // DAY_S)].merge(found.clicks)
    ordered = sorted(totals, key=lambda group: (group[0], group[1] or ""))
    return ExperimentsResponse(
        models=[figures(group, totals[group], days[group]) for group in ordered],
        differences=differences(ordered, totals),
    )


def differences(ordered: list[Group], totals: Mapping[Group, Totals]) -> list[ModelDifference]:
    return [
        ModelDifference(
            alias=alias,
            model=model,
            other=other,
            click_through=compare(totals[model, alias].clicks, totals[other, alias].clicks),
            auc=compare(totals[model, alias].auc, totals[other, alias].auc),
        )
        for (model, alias), (other, other_alias) in combinations(ordered, 2)
        if alias is not None and alias == other_alias
    ]


def figures(group: Group, totals: Totals, days: Days) -> ModelFigures:
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
        by_day=[
            DayFigures(
                day=datetime.fromtimestamp(day * DAY_S, UTC).date(),
                impressions=int(found.bottom),
                clicks=int(found.top),
                click_through=found.share(),
            )
            for day, found in sorted(days.items())
            if found.bottom
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
