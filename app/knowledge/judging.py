"""The ranker's judgement of a request's targets, once the language model has answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.knowledge.ranking import Ranking
from app.ranker.features import Floats, Group, Known, features
from app.ranker.ranker import Trees, probability

LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Explanation:
    """Log-odds of a click: the baseline, and what each group of features adds to it."""

    baseline: float
    groups: dict[Group, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """probability: calibrated, [targets]. order_by: what the targets are to be ordered by,
    [targets]; other than the probability where new stories get a chance. matrix: [targets,
    features]."""

    probability: Floats
    order_by: Floats
    matrix: Floats
    trees: Trees

    def explain(self, targets: Sequence[int]) -> list[Explanation]:
        """Why the targets of these indices have their probabilities."""
        if not targets:
            return []
        groups, baseline = self.trees.contributions(self.matrix[list(targets)])
        return [
            Explanation(baseline, {group: float(each[n]) for group, each in groups.items()})
            for n in range(len(targets))
        ]


def judge(
    ranking: Ranking,
    known: Sequence[Known],
    text: Sequence[float],
    chance: np.random.Generator | None = None,
) -> Judged:
    """known: of each pair. text: the language model's probability for each target, pair by pair.
    chance: if given, the order is by rates drawn from what they may be."""
    log_odds = logit(np.array(text))
    ends = np.cumsum([len(one.figures.clicks) for one in known])
    whole = [
        replace(one, text=part)
        for one, part in zip(known, np.split(log_odds, ends[:-1]), strict=True)
    ]
    trees = ranking.ranker.full
    matrix = np.concatenate([features(one) for one in whole])
    found = order_by = probability(trees.log_odds(matrix))
    if chance is not None:
        drawn = [replace(one, figures=one.figures.sampled(chance)) for one in whole]
        order_by = trees.log_odds(np.concatenate([features(one) for one in drawn]))
    return Judged(found, order_by, matrix, trees)


def logit(values: Floats) -> Floats:
    kept = np.clip(values, LEAST, 1 - LEAST)
    return np.asarray(np.log(kept) - np.log1p(-kept), np.float64)
