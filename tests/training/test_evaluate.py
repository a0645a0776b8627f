"""The command on real tiny models, by each backend, against the same sums done otherwise."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from app.scoring.calibration import predict
from app.scoring.profile import Profile
from tests.support.evaluate_runs import PROFILE, QUICK
from training.__main__ import main
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.evaluation.backends.base import check_for_vllm
from training.evaluation.backends.transformers import TransformersBackend
from training.tuning import methods
from training.tuning.config import FinetuneConfig
from training.tuning.sources import find_source


def plain_probability(folder: Path, rows: list[Impression]) -> list[np.ndarray[Any, Any]]:
    """Each candidate's whole prompt by itself through the plain model."""
    backend = TransformersBackend(find_source(folder, None), 4096, "float32")
    builder, model = backend.builder, backend.model
    found = []
    for row in rows:
        chances = []
        for prompt in builder.build(row.reader, row.candidates, 2000):
            with torch.no_grad():
                logs = (
                    model(torch.tensor([prompt.tokens]), logits_to_keep=1)
                    .logits[0, 0]
                    .log_softmax(-1)
                )
            given = predict(float(logs[builder.yes]), float(logs[builder.no]), builder.profile)
            chances.append(given.probability)
        found.append(np.array(chances))
    return found


def test_figures_equal_those_of_a_plain_forward_pass(
    result: dict[str, Any], models: Path, rows: list[Impression]
) -> None:
    aucs, losses = {}, {}
    for name in ("base", "tuned"):
        chances = plain_probability(models / name, rows)
        ranked = [
            (r, p) for r, p in zip(rows, chances, strict=True) if len(set(r.clicked or [])) == 2
        ]
        aucs[name] = float(np.mean([roc_auc_score(r.clicked, p) for r, p in ranked]))
        happened = np.concatenate(
            [np.where(np.array(r.clicked), p, 1 - p) for r, p in zip(rows, chances, strict=True)]
        )
        losses[name] = float(-np.log(happened).mean())
    base, tuned = result["models"]
    for model in (base, tuned):
        assert model["figures"]["auc"]["value"] == pytest.approx(aucs[model["name"]], abs=1e-6)
        assert model["figures"]["log_loss"]["value"] == pytest.approx(
            losses[model["name"]], abs=1e-4
        )
    assert aucs["base"] != aucs["tuned"]
    change = tuned["differences"]["auc"]
    assert change["value"] == pytest.approx(aucs["tuned"] - aucs["base"], abs=1e-6)
    assert change["low"] <= change["value"] <= change["high"]
    assert base["differences"] == {}


def test_what_the_file_says_of_the_run(
    result: dict[str, Any], data: Path, rows: list[Impression]
) -> None:
    both = sum(len(set(row.clicked or [])) == 2 for row in rows)
    assert result["data"]["data_hash"] == PreparedData(data).data_hash
    assert result["data"]["impressions"] == len(rows)
    assert result["data"]["ranked"] == result["data"]["pairs"] == both
    assert result["data"]["candidates"] == sum(len(row.candidates) for row in rows)
    assert result["run"]["versions"]["torch"] == torch.__version__
    base, tuned = result["models"]
    assert (base["backend"], base["profile"]["layout"]["name"]) == ("transformers", "original")
    assert Profile.model_validate(tuned["profile"]) == PROFILE
    assert sum(text["count"] for text in base["texts"]) <= 4


def test_speeds_by_batch_size(result: dict[str, Any]) -> None:
    for model in result["models"]:
        sizes = [(row["task"], row["mode"], row["size"]) for row in model["speed"]]
        assert sizes == [(task, "batch", size) for task in ("score", "text") for size in (1, 2)]
        assert all(row["samples_per_s"] > 0 and row["calls"] >= 3 for row in model["speed"])
        assert model["scoring"]["candidates_per_s"] > 0


def test_worst_errors_are_of_the_right_kind(result: dict[str, Any], rows: list[Impression]) -> None:
    truth = {
        (row.id, story): clicked
        for row in rows
        for story, clicked in zip(row.candidate_ids, row.clicked or [], strict=True)
    }
    for model in result["models"]:
        for kind, clicked in (("missed_clicks", True), ("false_hopes", False)):
            errors = model["errors"][kind]
            assert len(errors) == 10
            assert {truth[error["impression"], error["story"]] for error in errors} == {clicked}
            chances = [error["probability"] for error in errors]
            assert chances == sorted(chances, reverse=not clicked)


def test_text_in_a_batch_is_the_text_alone(models: Path, rows: list[Impression]) -> None:
    backend = TransformersBackend(find_source(models / "tuned", None), 4096, "float32")
    together = backend.write(rows[:3])
    assert together == [backend.write([row])[0] for row in rows[:3]]
    assert len(set(together)) > 1
    backend.close()


@pytest.mark.parametrize("method", ["p_tuning", "adapter"])
def test_what_vllm_does_not_serve_transformers_asks(
    method: Literal["p_tuning", "adapter"], models: Path, rows: list[Impression], tmp_path: Path
) -> None:
    """The learned part takes part in scores and in text, though it is random here."""
    config = FinetuneConfig(method=method, num_virtual_tokens=4, adapter_size=8)
    model = methods.create(config, models / "base", methods.Placement())
    for parameter in methods.trainable(model).values():
        torch.nn.init.normal_(parameter, std=1.0)
    methods.save(model, tmp_path, models / "base", method)
    tuned, base = (
        TransformersBackend(find_source(folder, models / "base"), 4096, "float32")
        for folder in (tmp_path, models / "base")
    )
    (changed,), (plain,) = tuned.score(rows[:1]), base.score(rows[:1])
    assert np.abs(changed.probability - plain.probability).min() > 1e-4
    assert tuned.write(rows[:2]) != base.write(rows[:2])
    with pytest.raises(TrainingError, match="vLLM serves LORA only"):
        check_for_vllm(find_source(tmp_path, models / "base"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "alone"], "--model alone: write it as NAME=FOLDER"),
        (["--model", "=x"], "write it as NAME=FOLDER"),
        (["--model", "a=x", "--model", "a=y"], "two models have the same name"),
        (["--model", "a=absent"], "absent is not a folder"),
        (["--model", "a=BASE", "--split", "test"], "the split 'test' has no labels"),
        (["--model", "a=BASE", "--split", "dev"], "no split 'dev'"),
        (["--model", "a=BASE", "--limit", "0"], "--limit 0: must be 1 or more"),
        (["--model", "a=BASE", "--sizes", "0"], "--sizes"),
        (["--model", "a=BASE", "--backend", "vllm", "--engine", "{"], "--engine is not JSON"),
    ],
)
def test_mistakes_are_named(
    options: list[str],
    message: str,
    data: Path,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [option.replace("BASE", str(models / "base")) for option in options]
    output = tmp_path / "eval"
    assert main(["evaluate", "--data", str(data), "--output", str(output), *given]) == 1
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_an_adapters_base_is_found_or_asked_for(models: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}'
    )
    with pytest.raises(TrainingError, match="on elsewhere: name its folder with --base"):
        find_source(adapter, None)
    assert find_source(adapter, models / "base").base == models / "base"
    (tmp_path / "elsewhere").symlink_to(models / "base")
    assert find_source(adapter, None).base == tmp_path / "elsewhere"


def test_a_broken_model_is_not_given_figures(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (models / "base").iterdir():
        (broken / file.name).symlink_to(file)
    weights = load_file(models / "base" / "model.safetensors")
    weights["model.norm.weight"] *= float("nan")
    (broken / "model.safetensors").unlink()
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    options = ["evaluate", "--data", str(data), "--model", f"a={broken}", *QUICK]
    assert main([*options, "--output", str(tmp_path / "eval")]) == 1
    assert "a score that is not a number" in capsys.readouterr().err
