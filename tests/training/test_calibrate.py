"""The command on a trained model."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from app.scoring.profile import Calibration, load_profile
from tests.support.tiny_training import finetune, make_builder
from training.__main__ import main
from training.data.prepared import PreparedData
from training.packed.scorer import score
from training.tuning import methods
from training.tuning.calibration import fit


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
    assert "name its folder with --base" in capsys.readouterr().err
    (tmp_path / tiny.name).symlink_to(tiny)  # beside the adapter, by the name that it gives
    assert main(command) == 0


def test_scores_that_are_no_numbers_are_not_calibrated(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    finetune(tiny, prepared, out, method="full", max_samples=5)
    before = (out / "profile.json").read_bytes()
    weights = load_file(out / "model.safetensors")
    weights["model.layers.0.input_layernorm.weight"][3] = float("inf")
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    assert main(["calibrate", str(out), "--data", str(prepared)]) == 1
    assert "a score that is not a number" in capsys.readouterr().err
    assert (out / "profile.json").read_bytes() == before
