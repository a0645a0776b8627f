"""Fitting the trees: which kind is chosen on validation impressions, and calibrated there."""

from dataclasses import dataclass, replace
from itertools import product

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from app.ranker.features import NAMES, Floats
from training import metrics
from training.errors import TrainingError
from training.metrics import Flags
from training.ranking.moments import Vectors
from training.ranking.rows import LIVE, TOWER, Rows, has_score, has_text, without_text

OBJECTIVES = ("lambdarank", "binary")
RISING = ("rate", "recent_rate", "text")
"""The features that a click can only be likelier with, where that is asked for."""
COMMON = {
    "learning_rate": 0.025,
    "num_leaves": 15,
    "min_data_in_leaf": 200,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "verbose": -1,
}
ROUNDS = 300
MIN_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Kind:
    """How trees are fitted. rising: with monotone constraints on RISING."""

    objective: str
    rising: bool

    def __str__(self) -> str:
        return f"{self.objective}{', monotone' if self.rising else ''}"


KINDS = tuple(Kind(*pair) for pair in product(OBJECTIVES, (False, True)))


@dataclass(frozen=True, slots=True)
class Fitted:
    """Trees with their calibration: log-odds = slope · raw + intercept."""

    kind: Kind
    booster: lightgbm.Booster
    slope: float
    intercept: float

    def log_odds(self, matrix: Vectors) -> Floats:
        """[candidates]; matrix: [candidates, features]."""
        raw = self.booster.predict(matrix, raw_score=True)
        return self.slope * np.asarray(raw, np.float64) + self.intercept


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind's figures on the validation impressions, means over them."""

    kind: Kind
    auc: float
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class FitOptions:
    """threads: of LightGBM. dropout: the share of impressions learned without live figures.
    validation: the share of impressions, the latest, that kinds are chosen and calibrated on; of
    those with the language model's score, or else of those with the tower's, if there are any."""

    dropout: float = 0.2
    validation: float = 0.25
    threads: int = 1
    seed: int = 0


def choose(rows: Rows, options: FitOptions) -> list[Trial]:
    """Try every kind, the best first: by AUC and nDCG@10 together, on the latest impressions."""
    early, late = halves(rows, options.validation)
    trials = []
    for kind in KINDS:
        booster = fit_trees(early, kind, options)
        scores = late.split(np.asarray(booster.predict(late.matrix, raw_score=True)))
        found = metrics.ranking(late.split(late.clicked), scores)  # type: ignore[arg-type]
        trials.append(Trial(kind, found["auc"].value, found["ndcg_at_10"].value))
    return sorted(trials, key=lambda trial: -(trial.auc + trial.ndcg_at_10))


def fit(rows: Rows, kind: Kind, options: FitOptions) -> Fitted:
    """Fit on all rows; calibrate by trees of the earlier ones on the later ones. Scores that are
    not known are NaN, of which the trees learn too: so a few hundred impressions that the language
    model has scored are enough, if there are many others.

    Raises TrainingError where there are too few clicks.
    """
    early, late = halves(rows, options.validation)
    first = fit_trees(early, kind, options)
    raw = np.asarray(first.predict(late.matrix, raw_score=True), np.float64)
    slope, intercept = platt(raw, late.clicked)
    return Fitted(kind, fit_trees(rows, kind, options), slope, intercept)


def fit_first_stage(rows: Rows, kind: Kind, options: FitOptions) -> Fitted:
    """As `fit`, without the language model's score."""
    return fit(replace(rows, matrix=without_text(rows.matrix)), kind, options)


def fit_trees(rows: Rows, kind: Kind, options: FitOptions) -> lightgbm.Booster:
    """Trees on the rows, some of which have no live figures."""
    drawn = np.random.default_rng(options.seed).random(len(rows.sizes)) < options.dropout
    matrix = rows.matrix.copy()
    matrix[np.ix_(np.repeat(drawn, rows.sizes), LIVE)] = 0
    data = lightgbm.Dataset(
        matrix,
        rows.clicked.astype(np.float64),
        group=rows.sizes if kind.objective == "lambdarank" else None,
        feature_name=list(NAMES),
    )
    parameters = COMMON | {
        "objective": kind.objective,
        "seed": options.seed,
        "num_threads": options.threads,
        "monotone_constraints": [int(kind.rising and name in RISING) for name in NAMES],
    }
    return lightgbm.train(parameters, data, ROUNDS)


def best_known(rows: Rows) -> Flags:
    """The impressions with the language model's score, or else those with the tower's, if there are
    any; else all: [impressions]."""
    ways = (has_text(rows), has_score(rows, TOWER))
    return next((known for known in ways if known.any()), np.ones(len(rows.sizes), np.bool_))


def halves(rows: Rows, share: float) -> tuple[Rows, Rows]:
    """The last `share` of the impressions of which most is known, and all that are earlier than
    these. Impressions of one moment stay together. Raises TrainingError unless both have clicks and
    non-clicks."""
    known = best_known(rows)
    times = rows.times[known]
    early: Flags = rows.times < times[min(int((1 - share) * len(times)), len(times) - 1)]
    parts = rows.take(early), rows.take(~early & known)
    for part in parts:
        if not part.clicked.any() or part.clicked.all():
            raise TrainingError("too few impressions with clicks and non-clicks to fit a ranker on")
    return parts


def platt(raw: NDArray[np.float64], clicked: Flags) -> tuple[float, float]:
    """Slope and intercept (Platt 1999), fitted without weights."""
    regression = LogisticRegression(C=np.inf).fit(raw[:, None], clicked)
    return max(float(regression.coef_[0, 0]), MIN_SLOPE), float(regression.intercept_[0])
