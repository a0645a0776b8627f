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
from datetime import UTC, datetime
from itertools import combinations

import numpy as np
from sqlalchemy import Connection

from app.feedback.differences import compare
from app.feedback.figures import (
    CalibrationBin,
    DayFigures,
    ExperimentsResponse,
    ModelDifference,
    ModelFigures,
    PositionFigures,
)
from app.feedback.hours import DAY_S, merge, read_parts
from app.feedback.intervals import Floats, Moments
from app.feedback.totals import POSITION_NAMES, Group, Totals

BINS = 10
Days = Mapping[int, Moments]
"""Clicks and impressions by the day, counted from 1970."""


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
