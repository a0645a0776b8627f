"""Label log-probabilities → calibrated probability and label."""

import math
from dataclasses import dataclass
from typing import Literal

from app.scoring.profile import Profile

Label = Literal["Yes.", "No.", "Unknown"]
YES: Label = "Yes."
NO: Label = "No."
UNKNOWN: Label = "Unknown"
"""Used if the total probability of both labels is below the profile's min_label_mass."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted for one reader and one story.

    probability: of a click, in [0, 1], calibrated, by all that is known. text_probability: the
    same by the language model alone. label_mass: the total probability of the two
    labels as the next token, in [0, 1]; a low value means that the model wanted to answer something
    else. Both are None where the language model was not asked. history_used: how many stories of
    the reader's history the prompt held.
    """

    probability: float
    text_probability: float | None
    label: Label
    label_mass: float | None
    history_used: int


def predict(log_yes: float, log_no: float, profile: Profile, history_used: int = 0) -> Prediction:
    """Compute a calibrated prediction by the language model alone.

    log_yes, log_no: natural log-probabilities of the two labels over the whole vocabulary.
    """
    calibration = profile.calibration
    probability = sigmoid(calibration.slope * (log_yes - log_no) + calibration.intercept)
    mass = min(math.exp(log_yes) + math.exp(log_no), 1.0)
    label = label_of(probability, mass, profile)
    return Prediction(probability, probability, label, mass, history_used)


def label_of(probability: float, label_mass: float | None, profile: Profile) -> Label:
    """label_mass: None where the language model was not asked."""
    if label_mass is not None and label_mass < profile.min_label_mass:
        return UNKNOWN
    return YES if probability >= profile.threshold else NO


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
