"""What another order of the lists in a log would have earned, in clicks a list.

A click on a story at place k that the new order puts at k' counts p(k') / p(k) times, where p is
how likely a reader looks at a place. Under the position-based model the expected sum is that of the
new order (Joachims et al. 2017, "Unbiased Learning-to-Rank with Biased Feedback"; Li et al. 2018,
"Offline Evaluation of Ranking Policies with Click Models"). Weights above a limit are clipped,
which trades variance for bias. The sum is self-normalised (Swaminathan and Joachims 2015): divided
by the weighted looks at all stories, times the looks that the new order gets. Without clipping this
changes nothing; with it, what was clipped counts as the mean of the rest.

Only the order of what was shown is judged. What the new model would have shown instead is unknown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import TrainingError
from training.evaluation.positions import Places, propensities, tally
from training.evaluation.shown import Ints, Shown
from training.metrics import Estimate, Flags, Floats

LEAST_READERS = 30
"""An interval over fewer readers would be too narrow."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How orders are judged. clip: the largest weight of a click. least: effective clicks that an
    order needs. monotone: see training.evaluation.positions. rounds: of the bootstrap."""

    clip: float
    least: float
    monotone: bool
    rounds: int
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The lists on which orders are judged. levels, clicked, readers: [candidates], as shown.
    orders: the levels in each new order, [candidates] each. list_readers: [lists]. width: how many
    levels there are."""

    levels: Ints
    clicked: Flags
    readers: Ints
    orders: list[Ints]
    list_readers: Ints
    width: int

    def moves(self, weights: Floats) -> "list[Moves]":
        """For each order. weights: of readers."""
        shape = self.width, self.width
        amount = weights[self.readers]
        cells = (self.levels * self.width + order for order in self.orders)
        return [
            Moves(tally(cell, amount, shape), tally(cell, amount * self.clicked, shape))
            for cell in cells
        ]


@dataclass(frozen=True, slots=True)
class Moves:
    """How many stories were at level k and would be at k', [levels k, levels k'], and how many of
    them were clicked."""

    shown: Floats
    clicked: Floats

    def earned(self, propensity: Floats, clip: float) -> float:
        """All clicks that the new order would have got."""
        weights = np.minimum(ratios(propensity), clip)
        looks = float((self.shown * weights * propensity[:, None]).sum())
        return float((self.clicked * weights).sum()) / looks * float(self.shown.sum(0) @ propensity)

    def effective(self, propensity: Floats, clip: float) -> float:
        """How many clicks of equal weight would say as much (Kish 1965)."""
        weights = np.minimum(ratios(propensity), clip)
        squares = float((self.clicked * weights**2).sum())
        return float((self.clicked * weights).sum()) ** 2 / squares if squares else 0.0

    def clipped(self, propensity: Floats, clip: float) -> float:
        """The share of clicks whose weight is clipped."""
        return float(self.clicked[ratios(propensity) > clip].sum() / max(self.clicked.sum(), 1))


def ratios(propensity: Floats) -> Floats:
    """p(k') / p(k), [levels k, levels k']."""
    found: Floats = propensity[None, :] / propensity[:, None]
    return found


def judge(shown: Shown, levels: Ints, lists: Flags, scores: Sequence[Floats], seed: int) -> Judged:
    """The chosen lists, ordered by each of the scores [candidates]; levels: [places]."""
    used = shown.each(lists)
    number = shown.each(np.arange(len(shown.sizes)))[used]
    level = levels[shown.places[used]]
    return Judged(
        levels=level,
        clicked=shown.clicked[used],
        readers=shown.each(shown.readers)[used],
        orders=[reorder(number, level, one[used], seed) for one in scores],
        list_readers=shown.readers[lists],
        width=int(levels[-1]) + 1,
    )


def reorder(number: Ints, levels: Ints, scores: Floats, seed: int) -> Ints:
    """The level of each candidate if the highest score of its list comes first. Equal scores come
    in random order, so that no order of the input helps. number: of the list, rising; all arrays:
    [candidates]."""
    chance = np.random.default_rng(seed).random(len(number))
    found = np.empty_like(levels)
    found[np.lexsort((chance, -scores, number))] = levels
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A new order. clicks: a list. over_logged, over_first: clicks a list more than the logged
    order, and than the first of the new orders (None for that one). effective: clicks. clipped: a
    share of the clicks."""

    clicks: Estimate
    over_logged: Estimate
    over_first: Estimate | None
    effective: float
    clipped: float


@dataclass(frozen=True, slots=True)
class Found:
    """propensities: of each level. logged: clicks a list in the logged order. lines: by order."""

    propensities: list[Estimate]
    logged: Estimate
    lines: list[Line]


def estimate(places: Places, lists: Judged, names: Sequence[str], rules: Rules) -> Found:
    """What each order would have earned, with 95 % percentile-bootstrap intervals over readers.
    Each resample has propensities of its own. names: of the orders, for errors.

    Raises TrainingError where too little is known.
    """
    everybody = np.ones(int(max(places.readers.max(), lists.readers.max())) + 1)
    propensity = propensities(places, everybody, rules.monotone)
    moves = lists.moves(everybody)
    effective = [one.effective(propensity, rules.clip) for one in moves]
    check_enough(lists, dict(zip(names, effective, strict=True)), rules.least)
    values = figures(places, lists, everybody, rules)
    drawn = [figures(places, lists, once, rules) for once in resample(len(everybody), rules)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    every = [Estimate(*map(float, row)) for row in zip(values, low, high, strict=True)]
    lines = []
    for place, (size, one) in enumerate(zip(effective, moves, strict=True)):
        start = lists.width + 1 + 3 * place
        clicks, over_logged, over_first = every[start : start + 3]
        clipped = one.clipped(propensity, rules.clip)
        lines.append(Line(clicks, over_logged, over_first if place else None, size, clipped))
    return Found(every[: lists.width], every[lists.width], lines)


def check_enough(lists: Judged, effective: dict[str, float], least: float) -> None:
    """Raise TrainingError for too few readers, or too few effective clicks."""
    readers = len(np.unique(lists.list_readers))
    if readers < LEAST_READERS:
        raise TrainingError(
            f"{readers} readers are too few to tell how sure an estimate is: {LEAST_READERS} are"
            " needed"
        )
    clicks = int(lists.clicked.sum())
    for name, size in effective.items():
        if size < least:
            raise TrainingError(
                f"{name}: the {clicks:,} clicks say as much about this order as {size:.0f} of equal"
                f" weight would, and --least-clicks is {least:g}. Take more lists, or a lower"
                " --clip, which weighs clicks more alike"
            )


def resample(readers: int, rules: Rules) -> Iterator[Floats]:
    """How often each reader is drawn, [readers], in each round."""
    random = np.random.default_rng(rules.seed)
    for _ in range(rules.rounds):
        yield np.bincount(random.integers(readers, size=readers), minlength=readers).astype(float)


def figures(places: Places, lists: Judged, weights: Floats, rules: Rules) -> Floats:
    """Every figure once: the propensities, the logged order's clicks a list, and for each new order
    its clicks, those over the logged order and over the first. weights: of readers."""
    propensity = propensities(places, weights, rules.monotone)
    count = float(weights[lists.list_readers].sum())
    logged = float(weights[lists.readers][lists.clicked].sum()) / count
    earned = [one.earned(propensity, rules.clip) / count for one in lists.moves(weights)]
    orders = [(one, one - logged, one - earned[0]) for one in earned]
    return np.concatenate([propensity, [logged], np.ravel(orders)])
