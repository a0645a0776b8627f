"""How well validation impressions are scored."""

from collections.abc import Sequence

import numpy as np

from training import metrics
from training.data.prepared import Impression
from training.metrics import Flags
from training.packed.scorer import Scores


def clicked_flags(impressions: Sequence[Impression]) -> list[Flags]:
    """For each impression, which candidates were clicked, [candidates]."""
    return [np.array(impression.clicked, dtype=np.bool_) for impression in impressions]


def measure(impressions: Sequence[Impression], scores: Scores) -> dict[str, float]:
    """Figures by name. loss: mean over candidates of -ln p(right label) over the whole vocabulary.
    auc: mean over impressions. mass: the probability that the two labels hold together, mean over
    candidates."""
    clicked = clicked_flags(impressions)
    right = [np.where(c, yes, no) for c, (yes, no) in zip(clicked, scores, strict=True)]
    mass = np.concatenate([np.exp(yes) + np.exp(no) for yes, no in scores])
    auc = metrics.ranking(clicked, [yes - no for yes, no in scores])["auc"].value
    return {"loss": -float(np.concatenate(right).mean()), "auc": auc, "mass": float(mass.mean())}
