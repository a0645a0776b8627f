"""Validation impressions: which are used, how well they are scored, and Platt's calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_curve

from app.scoring.profile import Calibration, Profile
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.evaluation import metrics
from training.evaluation.metrics import Flags, Floats
from training.packed.scorer import Scores

FLATTEST = 1e-3
"""The smallest slope that still counts as an order of the candidates."""
FAR = 100.0
"""Log-odds. A probability of e^-FAR is none."""


def spread(data: PreparedData, split: str, count: float) -> list[Impression]:
    """`count` impressions (below 1: that share), evenly spread over a split.

    Raises TrainingError for a split without labels.
    """
    total = data.count(split)
    number = min(total, int(count) if count >= 1 else round(count * total))
    wanted = {index * total // number for index in range(number)}
    found = [item for index, item in enumerate(data.impressions(split)) if index in wanted]
    if any(item.clicked is None for item in found):
        raise TrainingError(f"{data.folder}: the split {split!r} has no labels")
    return found


def flags(impressions: Sequence[Impression]) -> list[Flags]:
    """Clicked or not, [candidates] an impression."""
    return [np.array(impression.clicked, dtype=np.bool_) for impression in impressions]


def measure(impressions: Sequence[Impression], scores: Scores) -> dict[str, float]:
    """loss: mean over candidates of -ln p(right label) over the whole vocabulary. auc: mean over
    impressions. mass: what the two labels hold together, mean over candidates."""
    clicked = flags(impressions)
    right = [np.where(c, yes, no) for c, (yes, no) in zip(clicked, scores, strict=True)]
    mass = np.concatenate([np.exp(yes) + np.exp(no) for yes, no in scores])
    auc = metrics.ranking(clicked, [yes - no for yes, no in scores])["auc"].value
    return {"loss": -float(np.concatenate(right).mean()), "auc": auc, "mass": float(mass.mean())}


@dataclass(frozen=True, slots=True)
class Quality:
    """Over all candidates. log_loss: mean -ln probability of what happened. ece: expected
    calibration error. balanced_accuracy: mean of the shares labelled right among clicks and among
    others."""

    log_loss: float
    ece: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class Fit:
    """before: as a new profile has it, slope 1, intercept 0, threshold 0.5."""

    slope: float
    intercept: float
    threshold: float
    impressions: int
    candidates: int
    before: Quality
    after: Quality

    def apply(self, profile: Profile) -> Profile:
        calibration = Calibration(slope=self.slope, intercept=self.intercept)
        return profile.model_copy(update={"calibration": calibration, "threshold": self.threshold})

    def __str__(self) -> str:
        lines = [
            f"calibrated on {self.impressions:,} impressions, {self.candidates:,} candidates:"
            f" slope {self.slope:.4f}, intercept {self.intercept:+.4f},"
            f" Yes. from {self.threshold:.4f}"
        ]
        for name, quality in (("before", self.before), ("after", self.after)):
            lines.append(
                f"  {name:6}  log-loss {quality.log_loss:.4f}  ECE {quality.ece:.4f}"
                f"  balanced accuracy {quality.balanced_accuracy:.4f}"
            )
        return "\n".join(lines)


def fit(impressions: Sequence[Impression], scores: Scores, rule: str) -> Fit:
    """Platt (1999) on the labels' log-odds, unweighted: the natural share of clicks counts.

    rule: how the threshold is chosen, "balanced" (best on equally many clicks and others) or
    "chat" (where the likelier answer turns). Raises TrainingError without clicks and non-clicks.
    """
    clicked = np.concatenate(flags(impressions)) if impressions else np.zeros(0, np.bool_)
    if clicked.all() or not clicked.any():
        raise TrainingError("calibration needs both clicks and non-clicks: use more impressions")
    log_odds = np.concatenate([yes - no for yes, no in scores])
    regression = LogisticRegression(C=np.inf).fit(log_odds[:, None], clicked)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope < FLATTEST:  # no better than chance: keep the order as it is and set the level alone
        slope, intercept = 1.0, level(log_odds, clicked)
    cut = 0.0 if rule == "chat" else balanced_cut(log_odds, clicked)
    threshold = float(expit(slope * cut + intercept))
    return Fit(
        slope,
        intercept,
        threshold,
        len(impressions),
        len(clicked),
        measure_quality(clicked, expit(log_odds), 0.5),
        measure_quality(clicked, expit(slope * log_odds + intercept), threshold),
    )


def level(log_odds: Floats, clicked: Flags) -> float:
    """The intercept that gives the mean probability the share of clicks."""
    far = float(np.abs(log_odds).max()) + FAR
    return float(brentq(lambda shift: expit(log_odds + shift).mean() - clicked.mean(), -far, far))


def balanced_cut(log_odds: Floats, clicked: Flags) -> float:
    """The log-odds from which "Yes." maximizes balanced accuracy (Youden 1950)."""
    false, true, cuts = roc_curve(clicked, log_odds)
    best = cuts[np.argmax(true - false)]
    return float(np.clip(best, log_odds.min(), log_odds.max()))


def measure_quality(clicked: Flags, probability: Floats, threshold: float) -> Quality:
    return Quality(
        metrics.log_loss([clicked], [probability]).value,
        metrics.expected_calibration_error(metrics.calibration_bins(clicked, probability)),
        float(balanced_accuracy_score(clicked, probability >= threshold)),
    )
