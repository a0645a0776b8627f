"""Figures by day and arm, with 95 % intervals.

With one seed, the intervals are over its readers (bootstrap). With several, each seed is one
observation (Student's t), since readers of one world share its stories. Differences from the first
arm are between twins, so that their intervals are narrower than the figures' own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from examples.site.week import Row
from training import metrics
from training.metrics import Estimate, Floats, Ratio

ROUNDS, SEED = 2000, 0
FIGURES = {
    "click_through": "clicks per story shown",
    "expected": "expected clicks per story shown",
    "auc": "AUC",
}
ALL = "all"


@dataclass(frozen=True, slots=True)
class Summary:
    """day: a number, or ALL. lists: how many were shown. figures: by name. above: by how much they
    are above the first arm's."""

    day: int | str
    arm: str
    lists: int
    figures: dict[str, Estimate]
    above: dict[str, Estimate]


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Of each day and arm, and of all days."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    days: list[int | str] = [*sorted({row.day for row in rows}), ALL]
    found: list[Summary] = []
    several = len({row.seed for row in rows}) > 1
    for day in days:
        some = [row for row in rows if day in (row.day, ALL)]
        base = by_unit(some, arms[0], several)
        for arm in arms:
            mine = by_unit(some, arm, several)
            lists = sum(row.arm == arm for row in some)
            pair = (estimated(one, several) for one in (mine, minus(mine, base)))
            found.append(Summary(day, arm, lists, *pair))
    return found


def by_unit(rows: Sequence[Row], arm: str, several: bool) -> dict[str, Ratio]:
    """Sums of an arm's rows by seed, or by reader if there is one seed: [units], in their order."""
    mine = [row for row in rows if row.arm == arm]
    _, unit = np.unique([row.seed if several else row.reader for row in mine], return_inverse=True)
    count = np.bincount(unit).astype(np.float64)
    columns = {name: np.array([getattr(row, name) for row in mine], np.float64) for name in FIGURES}
    sums = {name: np.bincount(unit, column) for name, column in columns.items()}
    return {name: Ratio(one.astype(np.float64), count) for name, one in sums.items()}


def minus(mine: Mapping[str, Ratio], base: Mapping[str, Ratio]) -> dict[str, Ratio]:
    """Twins have the same visits, so that the numbers of lists are equal."""
    return {name: Ratio(one.top - base[name].top, one.bottom) for name, one in mine.items()}


def estimated(figures: Mapping[str, Ratio], several: bool) -> dict[str, Estimate]:
    """several: whether the units are seeds, not readers."""
    if several:
        return {name: over_seeds(one.top / one.bottom) for name, one in figures.items()}
    return metrics.estimates(figures, ROUNDS, SEED)


def over_seeds(values: Floats) -> Estimate:
    """The mean of some seeds' values, with Student's interval."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(mean, mean - half, mean + half)


def table(found: Sequence[Summary]) -> str:
    """In Markdown: figures with their intervals, and AUC and expected clicks above the first
    arm's."""
    heads = ["day", "arm", "lists", *FIGURES.values(), "expected, above", "AUC, above"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in found:
        cells = [str(one.day), one.arm, str(one.lists)]
        cells += [written(one.figures[name]) for name in FIGURES]
        cells += [written(one.above[name], "+") for name in ("expected", "auc")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (f"{one:{sign}.3f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"
