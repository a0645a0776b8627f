"""How likely a reader looks at each place of a list, estimated from a log.

The chance of a click is taken as a product (the position-based model: Craswell et al. 2008): how
likely a reader looks at the place, its propensity, times how likely this story is clicked once it
is seen. Where a story stood at several places its own share cancels out, and the places can be
compared. That harvests the interventions which changing orders have made anyway (Agarwal et al.
2019, "Estimating Position Bias without Intrusive Interventions"). Clicks of a group, such as a
story on one day, are Poisson counts with the expectation shown × place × group. Given the clicks of
each group, the groups' effects drop out of the likelihood (Hausman, Hall and Griliches 1984), which
leaves as many parameters as there are places.

A model shows a reader first what this reader will like, so even of one story the impressions at the
first place are those to readers who like it. That makes the first places look better than they are.
It does not if the impressions of a group had equal scores by the model that ordered them, or if the
order was random.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from sklearn.isotonic import isotonic_regression

from training.errors import TrainingError
from training.evaluation.shown import Ints, Shown
from training.metrics import Flags, Floats

LEAST_CLICKS = 30
"""Clicks that a place needs; with fewer it shares its propensity with those below it."""
PRIOR = 0.01
"""Weight, in clicks, of the prior that all places are alike. It gives every resample a result."""
STEPS = 100
"""Newton's method has converged long before."""


@dataclass(frozen=True, slots=True)
class Places:
    """What places are compared by, all arrays [candidates]: a number for each group, the level of
    the place, whether it was clicked, and the reader. width: how many levels there are."""

    groups: Ints
    levels: Ints
    clicked: Flags
    readers: Ints
    width: int


def pool(places: Ints, clicked: Flags, depth: int) -> Ints:
    """The level of each place, [places]: a level is one place, or neighbours that only together
    have LEAST_CLICKS; the places from number `depth` on are one level.

    places: from 0, [candidates]. Raises TrainingError where fewer than two levels come out.
    """
    clicks = np.bincount(places, clicked)
    levels, level, gathered = np.zeros(len(clicks), np.int64), 0, 0.0
    for place, found in enumerate(clicks):
        if gathered >= LEAST_CLICKS and place < depth:
            level, gathered = level + 1, 0.0
        levels[place] = level
        gathered += found
    if gathered < LEAST_CLICKS and level:
        levels[levels == level] = level - 1
    if not levels[-1]:
        raise TrainingError(
            f"{clicks.sum():,.0f} clicks are too few to compare places: at least two places, or two"
            f" parts of the list, need {LEAST_CLICKS} each"
        )
    return levels


def compare(shown: Shown, levels: Ints, lists: Flags, groups: Ints) -> Places:
    """The chosen lists' candidates in groups that tell something: with clicks, and at several
    levels. levels: [places]. lists: [lists]. groups: [candidates].

    Raises TrainingError where not all levels can be compared with the first.
    """
    used = shown.each(lists)
    _, group = np.unique(groups[used], return_inverse=True)
    level, clicked = levels[shown.places[used]], shown.clicked[used]
    first = np.zeros(group.max() + 1, np.int64)
    first[group] = level  # one of the group's levels
    mixed = np.bincount(group, level != first[group]) > 0
    tells = (mixed & (np.bincount(group, clicked) > 0))[group]
    _, kept = np.unique(group[tells], return_inverse=True)
    readers = shown.each(shown.readers)[used]
    width = int(levels[-1]) + 1
    check_linked(kept, level[tells], width)
    return Places(kept, level[tells], clicked[tells], readers[tells], width)


def check_linked(groups: Ints, levels: Ints, width: int) -> None:
    """Raise TrainingError unless all levels are compared with the first, directly or not."""
    nodes = width + int(groups.max(initial=0)) + 1
    graph = coo_array((np.ones(len(groups)), (levels, width + groups)), shape=(nodes, nodes))
    _, part = connected_components(graph, directed=False)
    apart = int((part[:width] != part[0]).sum())
    if apart:
        raise TrainingError(
            f"{apart} of {width} places (or parts of the list) can't be compared with the first: no"
            " story that was clicked stood at both. Show some lists in random order, or pool more"
            " places with --depth"
        )


def propensities(places: Places, weights: Floats, monotone: bool) -> Floats:
    """How likely each level is looked at relative to the first, [levels]. weights: of readers.
    monotone: no place is looked at more than one above it."""
    cell = places.groups * places.width + places.levels
    shape = (int(places.groups.max()) + 1, places.width)
    amount = weights[places.readers]
    shown, clicked = tally(cell, amount, shape), tally(cell, amount * places.clicked, shape)
    found = fit(shown, clicked)
    return falling(found, clicked.sum(0)) if monotone else found


def tally(cells: Ints, amounts: Floats, shape: tuple[int, int]) -> Floats:
    """The sum of the amounts in each cell of a table, whose cells are numbered row after row."""
    sums = np.bincount(cells, amounts, shape[0] * shape[1]).astype(np.float64)
    return sums.reshape(shape)


def fit(shown: Floats, clicked: Floats) -> Floats:
    """The propensities by Newton's method, 1 for the first level; [levels].

    shown, clicked: counts, [groups, levels].
    """
    total = clicked.sum(1, keepdims=True)
    logs = np.zeros(shown.shape[1])
    for _ in range(STEPS):
        expected = shown * np.exp(logs)
        share = expected / np.maximum(expected.sum(1, keepdims=True), np.finfo(np.float64).tiny)
        fitted = total * share
        slope = clicked.sum(0) - fitted.sum(0) - PRIOR * logs
        curve = np.diag(fitted.sum(0) + PRIOR) - fitted.T @ share
        step = np.linalg.solve(curve[1:, 1:], slope[1:]).clip(-1, 1)
        logs[1:] += step
        if np.abs(step).max() < 1e-6:
            break
    found: Floats = np.exp(logs)
    return found


def falling(propensity: Floats, clicks: Floats) -> Floats:
    """The likeliest propensities that nowhere rise, 1 for the first level; both [levels]. Levels
    that would rise are pooled by their exposure, as Poisson rates are. clicks: at each level."""
    looks = (clicks + PRIOR) / propensity
    even = isotonic_regression(propensity, sample_weight=looks, increasing=False)
    found: Floats = even / even[0]
    return found
