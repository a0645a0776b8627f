"""Label log-probabilities → calibrated probability and label."""

import math
from dataclasses import dataclass
from typing import Literal

from app.scoring.profile import Profile

Label = Literal["Yes.", "No.", "Unknown"]
YES: Label = "Yes."
NO: Label = "No."
UNKNOWN: Label = "Unknown"
"""Where both labels together hold less than the profile's min_label_mass."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted for one reader and one story.

    probability: of a click, in [0, 1], calibrated. label_mass: the total probability of the two
    labels as the next token, in [0, 1]; a low value means that the model wanted to answer something
    else. history_used: how many stories of the reader's history the prompt held.
    """

    probability: float
    label: Label
    label_mass: float
    history_used: int


def predict(log_yes: float, log_no: float, profile: Profile, history_used: int = 0) -> Prediction:
    """log_yes, log_no: natural log-probabilities of the two labels over the whole vocabulary."""
    calibration = profile.calibration
    probability = sigmoid(calibration.slope * (log_yes - log_no) + calibration.intercept)
    mass = min(math.exp(log_yes) + math.exp(log_no), 1.0)
    label: Label
    if mass < profile.min_label_mass:
        label = UNKNOWN
    else:
        label = YES if probability >= profile.threshold else NO
    return Prediction(probability, label, mass, history_used)


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
