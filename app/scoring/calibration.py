"""Label log-probabilities → calibrated probability and label."""

import math
from dataclasses import dataclass

from app.scoring.profile import Profile

YES, NO, UNKNOWN = "Yes.", "No.", "Unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """probability: of a click, in [0, 1]. label_mass: what both labels hold of the model's next
    token, in [0, 1]; where it is small, the model wanted to say something else."""

    probability: float
    label: str
    label_mass: float


def answer(log_yes: float, log_no: float, profile: Profile) -> Answer:
    """log_yes, log_no: natural log-probabilities of the two labels over the whole vocabulary."""
    calibration = profile.calibration
    probability = sigmoid(calibration.slope * (log_yes - log_no) + calibration.intercept)
    mass = min(math.exp(log_yes) + math.exp(log_no), 1.0)
    if mass < profile.min_label_mass:
        label = UNKNOWN
    else:
        label = YES if probability >= profile.threshold else NO
    return Answer(probability, label, mass)


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
