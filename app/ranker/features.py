"""What the ranker sees of each candidate: one matrix, computed alike in training and in serving.

A change of what a feature means, or of their order, needs a new VERSION. A ranker's file names the
version and the features that it was fitted on, and is refused where they differ.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.likeness.cosine import COSINES
from app.signals.live import CATEGORY_PRIOR, STORY_PRIOR, Figures

Floats = NDArray[np.float64]
Group = Literal["live", "likeness", "category", "reader", "text"]

VERSION = 1
FEATURES: dict[str, Group] = {
    "rate": "live",
    "recent_rate": "live",
    "shown": "live",
    "age_hours": "live",
    "category_rate": "live",
    "cosine_mean": "likeness",
    "cosine_max": "likeness",
    "cosine_best": "likeness",
    "cosine_latest": "likeness",
    "tower": "likeness",
    "category_share": "category",
    "category_count": "category",
    "history_length": "reader",
    "times_passed": "reader",
    "times_clicked": "reader",
    "hour": "reader",
    "text": "text",
}
"""Each feature's name, in the matrix's order, and the group that its contribution is summed to.

rate, recent_rate: the natural logarithm of the story's click-through over the site's, shrunk
  towards 0 by 10 impressions; over all time (or the long half-life), and the short half-life.
shown: ln(1 + impressions so far). age_hours: since it was first shown.
category_rate: as rate, of the story's category, shrunk by 100 impressions.
cosine_*: between the story's vector and those of the reader's history: the mean, the maximum, the
  mean of the five highest and of the five latest. NaN without a sentence encoder.
tower: the tower's score. NaN without a tower.
category_share, category_count: of the reader's history, how much is of the story's category.
history_length: how many stories are known that the reader has clicked.
times_passed: how often the reader was shown the story and did not click it; times_clicked: how
  often they clicked it; both among their latest stories of that kind.
hour: of the day in UTC, 0 to 24.
text: the language model's calibrated log-odds. NaN where it was not asked.
"""
NAMES = tuple(FEATURES)
GROUPS: tuple[Group, ...] = ("live", "likeness", "category", "reader", "text")
TEXT = NAMES.index("text")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one reader and their candidates at a moment. Arrays are [candidates].

    For candidates of many impressions at once, what is a number of one impression is an array too.

    figures: live figures. cosines: [candidates, 4], from app.likeness.cosine; None without an
    encoder. tower, text: None where not computed. category_count: how many stories of the history
    are of the candidate's category. history_length: stories of the history. times_passed,
    times_clicked: see FEATURES. hour: of the day in UTC, 0 to 24.
    """

    figures: Figures
    cosines: Floats | None
    tower: Floats | None
    category_count: Floats
    history_length: int | Floats
    times_passed: Floats
    times_clicked: Floats
    hour: float | Floats
    text: Floats | None = None


def features(known: Known) -> Floats:
    """The matrix [candidates, features] that the trees see, in the order of NAMES."""
    figures = known.figures
    count = len(figures.clicks)
    columns = {
        "rate": log_rate(figures.clicks, figures.exposure, figures.site_rate, STORY_PRIOR),
        "recent_rate": log_rate(
            figures.recent_clicks, figures.recent_exposure, figures.site_rate, STORY_PRIOR
        ),
        "shown": np.log1p(figures.shown),
        "age_hours": figures.age_s / 3600,
        "category_rate": log_rate(
            figures.category_clicks, figures.category_exposure, figures.site_rate, CATEGORY_PRIOR
        ),
        "tower": known.tower,
        "category_share": known.category_count / np.maximum(known.history_length, 1),
        "category_count": known.category_count,
        "history_length": known.history_length,
        "times_passed": known.times_passed,
        "times_clicked": known.times_clicked,
        "hour": known.hour,
        "text": known.text,
    }
    matrix = np.full((count, len(NAMES)), np.nan)
    for name, column in columns.items():
        if column is not None:
            matrix[:, NAMES.index(name)] = column
    if known.cosines is not None:
        first = NAMES.index("cosine_mean")
        matrix[:, first : first + COSINES] = known.cosines
    return matrix


def log_rate(clicks: Floats, exposure: Floats, site_rate: float, prior: float) -> Floats:
    """ln(click-through / the site's), shrunk towards 0 as if by `prior` average impressions."""
    return np.log(np.maximum(clicks / site_rate + prior, 1e-6) / (exposure + prior))


def count_matches(candidates: Sequence[str | None], stories: Sequence[str | None]) -> Floats:
    """How many of the reader's stories have each candidate's id, or category: [candidates]. None
    matches nothing."""
    counts = Counter(stories)
    counts.pop(None, None)
    return np.array([counts[c] for c in candidates], dtype=np.float64)
