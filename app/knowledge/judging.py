"""The ranker's judgement of a request's targets, with and without the language model's."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.knowledge.ranking import Ranking
from app.ranker.features import TEXT, Floats, Group, Known, features
from app.ranker.ranker import Ranker, probability

Flags = NDArray[np.bool_]
LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Explanation:
    """Log-odds of a click: the baseline, and what each group of features adds to it."""

    baseline: float
    groups: dict[Group, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """probability: calibrated, [targets]. by_text: whether the language model's judgement is part
    of it, [targets]; if not, it is the first stage's. order: indices, the best first, those with
    the language model's judgement before all others. matrix: [targets, features]."""

    probability: Floats
    by_text: Flags
    order: list[int]
    matrix: Floats
    ranker: Ranker

    def explain(self, targets: Sequence[int]) -> list[Explanation]:
        """Why the targets of these indices have their probabilities."""
        found: dict[int, Explanation] = {}
        for with_text, trees in ((True, self.ranker.full), (False, self.ranker.first_stage)):
            chosen = [target for target in targets if self.by_text[target] == with_text]
            if chosen:
                groups, baseline = trees.contributions(self.matrix[chosen])
                for number, target in enumerate(chosen):
                    parts = {group: float(each[number]) for group, each in groups.items()}
                    found[target] = Explanation(baseline, parts)
        return [found[target] for target in targets]


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The candidates that the first stage likes best, and what it knows of all.

    chosen: indices, in the request's order. log_odds: calibrated, [candidates]. matrix:
    [candidates, features], without the language model's score.
    """

    chosen: list[int]
    log_odds: Floats
    matrix: Floats


def judge(
    ranking: Ranking,
    known: Sequence[Known],
    text: Floats,
    chance: np.random.Generator | None = None,
    first: Shortlist | None = None,
) -> Judged:
    """known: of each pair. text: the language model's probability for each target, pair by pair;
    NaN where it was not asked. chance: if given, the order is by rates drawn from what they may
    be. first: what the first stage made of the targets, if it was asked."""
    by_text: Flags = ~np.isnan(text)
    matrix = with_text(matrix_of(known) if first is None else first.matrix, text)
    log_odds = score(ranking.ranker, matrix, by_text, first)
    drawn = log_odds
    if chance is not None:
        drawn = score(ranking.ranker, with_text(matrix_of(known, chance), text), by_text)
    order = np.lexsort((-drawn, ~by_text))  # stable: ties keep their order
    return Judged(probability(log_odds), by_text, order.tolist(), matrix, ranking.ranker)


def shortlist(
    ranking: Ranking,
    known: Known,
    names: Sequence[Hashable],
    count: int,
    chance: np.random.Generator | None = None,
) -> Shortlist:
    """The `count` candidates that the first stage likes best. names: equal ones are one candidate,
    so that equal stories get equal probabilities."""
    first_stage, matrix = ranking.ranker.first_stage, matrix_of([known])
    log_odds = first_stage.log_odds(matrix)
    drawn = log_odds if chance is None else first_stage.log_odds(matrix_of([known], chance))
    chosen: set[Hashable] = set()
    for index in np.argsort(-drawn, kind="stable"):
        if len(chosen) == count:
            break
        chosen.add(names[index])
    places = [index for index, name in enumerate(names) if name in chosen]
    return Shortlist(places, log_odds, matrix)


def matrix_of(known: Sequence[Known], chance: np.random.Generator | None = None) -> Floats:
    if chance is not None:
        known = [replace(one, figures=one.figures.sampled(chance)) for one in known]
    return np.concatenate([features(one) for one in known])


def with_text(matrix: Floats, text: Floats) -> Floats:
    """The same with the language model's score. text: as in `judge`."""
    found = matrix.copy()
    found[:, TEXT] = logit(text)
    return found


def score(ranker: Ranker, matrix: Floats, by_text: Flags, first: Shortlist | None = None) -> Floats:
    """Calibrated log-odds, [targets]."""
    found = np.empty(len(matrix)) if first is None else first.log_odds.copy()
    found[by_text] = ranker.full.log_odds(matrix[by_text])
    if first is None:
        found[~by_text] = ranker.first_stage.log_odds(matrix[~by_text])
    return found


def logit(values: Floats) -> Floats:
    kept = np.clip(values, LEAST, 1 - LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept), np.float64)
