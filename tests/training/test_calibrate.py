"""Platt's fit against known answers, and the command on a trained model."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit  # type: ignore[import-untyped]

from app.scoring.profile import Calibration, Profile, load_profile
from app.scoring.wording import Reader, Story
from tests.support.tiny_training import finetune, make_builder
from training.__main__ import main
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.packed.scorer import Scores, score
from training.tuning import methods
from training.tuning.validation import fit, spread

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


def test_spread_is_even_and_by_count_or_share(prepared: Path) -> None:
    data = PreparedData(prepared)
    every = [item.id for item in data.impressions("val")]
    assert [item.id for item in spread(data, "val", 1000)] == every
    assert [item.id for item in spread(data, "val", 0.5)] == every[::2]
    assert [item.id for item in spread(data, "val", 3)] == every[:: len(every) // 3]


def test_the_command_rewrites_the_profile(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    finetune(tiny, prepared, out, max_samples=20)
    before = load_profile(out)
    assert before.calibration == Calibration()
    command = ["calibrate", str(out), "--data", str(prepared), "--base", str(tiny)]
    assert main([*command, "--threshold", "chat"]) == 0
    after = load_profile(out)
    text = capsys.readouterr().out
    assert "before  log-loss" in text
    assert "after   log-loss" in text

    impressions = list(PreparedData(prepared).impressions("val"))
    scores = score(methods.load_trained(out, tiny), make_builder(tiny), impressions)
    expected = fit(impressions, scores, "chat")
    assert after.calibration.intercept == pytest.approx(expected.intercept, rel=1e-3)
    assert after.threshold == pytest.approx(expected.threshold, rel=1e-3)
    kept = before.model_copy(
        update={"calibration": after.calibration, "threshold": after.threshold}
    )
    assert after == kept


def test_the_command_names_what_is_missing(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=5)
    command = ["calibrate", str(tmp_path / "out"), "--data", str(prepared)]
    assert main(command) == 1
    assert "say where that is with --base" in capsys.readouterr().err
    (tmp_path / tiny.name).symlink_to(tiny)  # beside the adapter, by the name that it gives
    assert main(command) == 0
