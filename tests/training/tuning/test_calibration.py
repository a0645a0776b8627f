"""Platt's fit against known answers."""

import numpy as np
import pytest
from scipy.special import expit  # type: ignore[import-untyped]

from app.scoring.profile import Calibration, Profile
from app.scoring.wording import Reader, Story
from training.data.prepared import Impression
from training.errors import TrainingError
from training.packed.scorer import Scores
from training.tuning.calibration import fit

SLOPE, INTERCEPT = 0.8, -2.5


def drawn(
    count: int, slope: float = SLOPE, intercept: float = INTERCEPT, seed: int = 0
) -> tuple[list[Impression], Scores]:
    """Impressions of 10 candidates, clicked as often as sigmoid(slope · log-odds + intercept)."""
    random = np.random.default_rng(seed)
    impressions, scores = [], []
    for number in range(count):
        odds = random.normal(scale=2, size=10)
        clicked = random.random(10) < expit(slope * odds + intercept)
        stories = [Story("s")] * 10
        impressions.append(
            Impression(str(number), "u", Reader(), stories, ["n"] * 10, clicked.tolist())
        )
        shift = random.normal(size=10)  # what both labels have less than all of the probability
        scores.append((shift - np.logaddexp(0, -odds), shift - np.logaddexp(0, odds)))
    return impressions, scores


def test_slope_and_intercept_are_found_again() -> None:
    found = fit(*drawn(5000), "balanced")
    assert found.slope == pytest.approx(SLOPE, abs=0.03)
    assert found.intercept == pytest.approx(INTERCEPT, abs=0.05)
    assert found.candidates == 50_000
    assert found.after.log_loss < found.before.log_loss
    assert found.after.ece < 0.01 < found.before.ece


def test_the_balanced_threshold_is_the_best_one() -> None:
    impressions, scores = drawn(2000)
    found = fit(impressions, scores, "balanced")
    clicked = np.concatenate([np.array(impression.clicked) for impression in impressions])
    odds = np.concatenate([yes - no for yes, no in scores])
    probability = expit(found.slope * odds + found.intercept)

    def accuracy(threshold: float) -> float:
        right = probability >= threshold
        return float(right[clicked].mean() + (~right[~clicked]).mean()) / 2

    assert found.after.balanced_accuracy == pytest.approx(accuracy(found.threshold))
    assert found.after.balanced_accuracy >= max(map(accuracy, np.linspace(0, 1, 101)))
    # In theory the best point is where the probability is the share of clicks.
    assert found.threshold == pytest.approx(clicked.mean(), abs=0.03)


def test_the_chat_threshold_is_where_the_likelier_answer_turns() -> None:
    found = fit(*drawn(2000), "chat")
    assert found.threshold == pytest.approx(float(expit(found.intercept)))


def test_scores_in_the_wrong_order_keep_it_and_get_the_right_level() -> None:
    impressions, scores = drawn(2000, slope=-0.5, intercept=-2.0)
    found = fit(impressions, scores, "balanced")
    assert found.slope == 1.0
    clicked = np.concatenate([np.array(impression.clicked) for impression in impressions])
    odds = np.concatenate([yes - no for yes, no in scores])
    assert expit(odds + found.intercept).mean() == pytest.approx(clicked.mean(), abs=1e-6)


def test_a_profile_takes_the_fit() -> None:
    found = fit(*drawn(200), "balanced")
    profile = found.apply(Profile(history=9))
    assert profile.calibration == Calibration(slope=found.slope, intercept=found.intercept)
    assert (profile.threshold, profile.history) == (found.threshold, 9)


def test_clicks_alone_are_not_enough() -> None:
    impressions, scores = drawn(3)
    clicks = [
        Impression(i.id, i.user, i.reader, i.candidates, i.candidate_ids, [True] * 10)
        for i in impressions
    ]
    with pytest.raises(TrainingError, match="both clicks and non-clicks"):
        fit(clicks, scores, "balanced")
