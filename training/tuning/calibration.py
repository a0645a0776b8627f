"""Platt's calibration: from scores to probabilities that are as frequent as clicks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_curve

from app.scoring.profile import PROFILE_FILE, Calibration, Profile
from training import metrics
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.folders import only_writer, write_whole
from training.metrics import Flags, Floats
from training.packed.scorer import Scores, score
from training.progress import progress
from training.tuning.methods import best_device, load_trained
from training.tuning.options import CalibrateOptions
from training.tuning.sources import find_source
from training.tuning.validation import clicked_flags

MIN_SLOPE = 1e-3
"""A smaller slope is not taken for an order of the candidates."""
ENOUGH_LOG_ODDS = 100.0
"""Shifted by this much, every probability is 0 or 1 as far as a float can tell."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Of probabilities, over all candidates. log_loss: mean of -ln(probability of what happened).
    ece: expected calibration error. balanced_accuracy: the mean of two shares, of the clicks and of
    the non-clicks that are labelled right."""

    log_loss: float
    ece: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration, and what it was fitted on.

    probability = 1 / (1 + e^-(slope · log-odds + intercept)); the label is Yes. from `threshold`
    on. before: with a new profile's values, which are slope 1, intercept 0 and threshold 0.5.
    """

    slope: float
    intercept: float
    threshold: float
    impressions: int
    candidates: int
    before: Quality
    after: Quality

    def apply(self, profile: Profile) -> Profile:
        """The profile with this calibration."""
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


def recalibrate(options: CalibrateOptions) -> Fit:
    """Fit a trained model on the validation split and write its profile. Raises TrainingError."""
    source = find_source(options.model, options.base)
    data = PreparedData(options.data)
    impressions = data.sample_evenly("val", options.limit or data.count("val"))
    with progress(f"loading {options.model}"):
        model = load_trained(options.model, source.base, device=best_device())
    scores = score(model, source.builder(), impressions, options.batch_tokens, what="calibration")
    found = fit(impressions, scores, options.threshold)
    profile = found.apply(source.profile).model_dump_json(indent=1)
    with only_writer(options.model):
        write_whole(options.model / PROFILE_FILE, profile + "\n")
    return found


def fit(impressions: Sequence[Impression], scores: Scores, rule: str) -> Fit:
    """Platt (1999) on the labels' log-odds, unweighted, because the natural share of clicks counts.

    rule: how the threshold is chosen, "balanced" (best on equally many clicks and non-clicks) or
    "chat" (where the likelier answer turns). Raises TrainingError without clicks and non-clicks.
    """
    clicked = np.concatenate(clicked_flags(impressions)) if impressions else np.zeros(0, np.bool_)
    if clicked.all() or not clicked.any():
        raise TrainingError("calibration needs both clicks and non-clicks: use more impressions")
    log_odds = np.concatenate([yes - no for yes, no in scores])
    regression = LogisticRegression(C=np.inf).fit(log_odds[:, None], clicked)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope < MIN_SLOPE:  # no better than chance: keep the order as it is, fit the level alone
        slope, intercept = 1.0, fit_level(log_odds, clicked)
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


def fit_level(log_odds: Floats, clicked: Flags) -> float:
    """The intercept with which the mean probability is the share of clicks."""
    far = float(np.abs(log_odds).max()) + ENOUGH_LOG_ODDS
    return float(brentq(lambda shift: expit(log_odds + shift).mean() - clicked.mean(), -far, far))


def balanced_cut(log_odds: Floats, clicked: Flags) -> float:
    """The log-odds from which on "Yes." maximizes balanced accuracy (Youden 1950)."""
    false, true, cuts = roc_curve(clicked, log_odds)
    best = cuts[np.argmax(true - false)]
    return float(np.clip(best, log_odds.min(), log_odds.max()))


def measure_quality(clicked: Flags, probability: Floats, threshold: float) -> Quality:
    """clicked, probability: [candidates] of all impressions together."""
    return Quality(
        metrics.log_loss([clicked], [probability]).value,
        metrics.expected_calibration_error(metrics.calibration_bins(clicked, probability)),
        float(balanced_accuracy_score(clicked, probability >= threshold)),
    )
