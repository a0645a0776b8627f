"""The command: what it writes, how it goes on after a kill, and what mistakes are told."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.engine.fingerprint import fingerprint
from app.scoring.profile import load_profile
from tests.support.models import ROOT
from tests.support.tiny_training import arguments, finetune, losses, make_tiny, read_log
from training.__main__ import main
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.tuning.config import FinetuneConfig
from training.tuning.groups import read_answers, read_groups
from training.tuning.run import make_builder
from training.tuning.run_folder import explained, last_checkpoint

ADAPTER = "adapter_model.safetensors"
SMALL = {"max_samples": 20, "num_train_epochs": 4}


def weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / ADAPTER)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=tolerance)


def fails(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    """The one line that a failing command prints."""
    capsys.readouterr()
    assert main(command) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_writes_all_that_serving_and_people_need(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    log = finetune(
        tiny,
        prepared,
        out,
        plot_loss=True,
        calibration_impressions=None,
        history=7,
        layout="original",
    )
    files = {path.name for path in out.iterdir()}
    assert files >= {"adapter_config.json", ADAPTER, "profile.json", "trainer_state.json"}
    assert files >= {"trainer_log.jsonl", "training_loss.png", "run.json", "finetune.json"}
    assert not [name for name in files if name.startswith(".")]
    assert (out / "training_loss.png").read_bytes().startswith(b"\x89PNG")
    assert losses(log)[-1] < losses(log)[0]

    data_hash = PreparedData(prepared).data_hash
    profile = load_profile(out)
    assert (profile.layout.name, profile.history) == ("original", 7)
    assert (profile.base_model, profile.data_hash) == (tiny.name, data_hash)
    assert profile.calibration.intercept != 0
    assert profile.threshold != 0.5

    record = json.loads((out / "run.json").read_text())
    assert record["data_hash"] == data_hash
    assert record["base_fingerprint"] == fingerprint(tiny)
    assert record["seed"] == record["config"]["seed"] == 42
    assert record["versions"]["torch"] == torch.__version__
    assert record["tokens"] > record["answers"] > 0
    for name in ("peak_memory_bytes", "tokens_per_second", "commit", "hardware", "seconds"):
        assert record[name]
    assert record["hardware"]["device"] not in ("", "cpu")  # its name
    after, before = (record["calibration"][when]["log_loss"] for when in ("after", "before"))
    assert after < before

    text = capsys.readouterr().out
    assert "trainable parameters: 16,384 of 141,696 (11.563%)" in text
    assert "0:00:00 left" in text
    assert {"current_steps", "total_steps", "lr", "percentage", "remaining_time"} <= log[0].keys()
    assert "eval_auc" in log[-1]


def test_a_killed_run_goes_on_to_the_same_weights(
    tiny: Path, prepared: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "save_steps": 4,
        "lora_dropout": 0.2,
        "gradient_accumulation_steps": 2,
    }
    options |= {"max_samples": 100, "num_train_epochs": 10}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "training", *arguments(tiny, prepared, killed, **options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while last_checkpoint(killed) is None and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "profile.json").exists()
    assert last_checkpoint(killed) is not None
    (killed / "checkpoint-9999").mkdir()  # a checkpoint that the kill cut short
    with (killed / "trainer_log.jsonl").open("a") as log:
        log.write('{"current_st')

    assert main([*arguments(tiny, prepared, killed, **options), "--resume"]) == 0
    finetune(tiny, prepared, whole, **options)
    assert_same(weights(killed), weights(whole), tolerance=0)
    steps = [[line["current_steps"] for line in read_log(output)] for output in (killed, whole)]
    assert steps[0] == steps[1]


def test_two_processes_learn_what_one_does(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    """Two processes share each step's rows; one process takes the same rows one after the other.
    Three steps only: in an epoch's last step, processes fill up with rows seen before."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    options: dict[str, Any] = {"max_samples": 50, "calibration_impressions": 6}
    options |= {"trainer": {"max_steps": 3}, "eval_steps": 3}
    python = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*python, "-m", "training", *arguments(tiny, prepared, together, **options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("is ready") == 1
    log = finetune(tiny, prepared, alone, gradient_accumulation_steps=2, **options)
    assert_same(weights(together), weights(alone), tolerance=1e-5)
    assert losses(read_log(together)) == pytest.approx(losses(log), abs=1e-4)
    assert read_log(together)[-1]["eval_loss"] == pytest.approx(log[-1]["eval_loss"], abs=1e-3)
    records = [json.loads((out / "run.json").read_text()) for out in (together, alone)]
    assert [record["hardware"]["processes"] for record in records] == [2, 1]
    slopes = [record["calibration"]["slope"] for record in records]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-3)


def test_the_best_checkpoint_can_be_kept(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    keep = {"load_best_model_at_end": True, "metric_for_best_model": "eval_auc"}
    log = finetune(tiny, prepared, tmp_path / "out", trainer=keep, **SMALL)
    aucs = {line["current_steps"]: line["eval_auc"] for line in log if "eval_auc" in line}
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["best_metric"] == max(aucs.values())
    best = tmp_path / "out" / f"checkpoint-{state['best_global_step']}"
    assert_same(weights(tmp_path / "out"), weights(best), tolerance=0)


def test_another_run_takes_the_folder_of_an_earlier_one(
    tiny: Path, prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    finetune(tiny, prepared, out, max_samples=10)
    finetune(tiny, prepared, out, max_samples=5, method="adapter")
    assert not (out / ADAPTER).exists()
    assert (out / "bottleneck.safetensors").exists()


def test_resuming_with_other_options_is_refused(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, prepared, tmp_path / "out", **SMALL)
    command = arguments(tiny, prepared, tmp_path / "out", lora_rank=4, **SMALL)
    line = fails(capsys, [*command, "--resume"])
    assert "was started with lora_rank 8, not 4" in line


def test_a_finished_run_resumed_stays_as_it_is(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    finetune(tiny, prepared, tmp_path / "out", **SMALL)
    before = weights(tmp_path / "out")
    assert main([*arguments(tiny, prepared, tmp_path / "out", **SMALL), "--resume"]) == 0
    assert_same(weights(tmp_path / "out"), before, tolerance=0)


def test_folders_that_are_something_else(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    cases = [
        ((tiny, prepared, tmp_path / "full"), "holds something else"),
        ((tiny, prepared, tmp_path / "file" / "out"), "can't write to"),
        ((tiny, tmp_path / "empty", tmp_path / "out"), "is not a prepared data set"),
        ((tmp_path / "empty", prepared, tmp_path / "out"), "holds no tokenizer.json"),
    ]
    for (model, data, output), message in cases:
        file = tmp_path / "run.yaml"
        file.write_text("method: lora\n")
        places = ["--model", str(model), "--data", str(data), "--output", str(output)]
        assert message in fails(capsys, ["finetune", str(file), *places])
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_ends_at_the_first_loss_that_is_not_a_number(
    method: str, tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"learning_rate": 1e30, "logging_steps": 50, "save_steps": 50}
    line = fails(capsys, arguments(tiny, prepared, out, method=method, **options, **SMALL))
    assert re.search(r"the loss is (nan|inf) at step \d: lower learning_rate \(1e\+30\)", line)
    assert [path.name for path in out.iterdir() if path.suffix == ".safetensors"] == []
    assert list(out.glob("checkpoint-*")) == []


def test_a_base_that_holds_a_nan_is_not_trained(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base").mkdir()
    base = make_tiny(tmp_path / "base")
    named = load_file(base / "model.safetensors")
    named["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(named, base / "model.safetensors", metadata={"format": "pt"})
    line = fails(capsys, arguments(base, prepared, tmp_path / "out", **SMALL))
    assert "the loss is nan at step 1: lower learning_rate" in line
    command = ["calibrate", str(base), "--data", str(prepared)]
    assert "got a score that is not a number" in fails(capsys, command)
    assert not (base / "profile.json").exists()


def test_a_last_step_that_breaks_the_weights_is_noticed(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No loss follows it that could tell."""
    options: dict[str, Any] = {"learning_rate": 1e39, "val_size": 0, "trainer": {"max_steps": 1}}
    line = fails(capsys, arguments(tiny, prepared, tmp_path / "out", warmup_ratio=0, **options))
    assert "training has diverged" in line
    assert not (tmp_path / "out" / ADAPTER).exists()


def fill_memory() -> None:
    torch.empty(2**50)


def fill_disk() -> None:
    Path("/dev/full").write_text("x")


@pytest.mark.parametrize(
    ("shortage", "message"),
    [
        (fill_memory, "out of memory: lower per_device_train_batch_size (4)"),
        (fill_disk, "No space left on device"),
    ],
)
def test_shortages_say_what_to_change(
    shortage: Callable[[], None], message: str, tmp_path: Path
) -> None:
    config = FinetuneConfig(per_device_train_batch_size=4)
    with pytest.raises(TrainingError) as error, explained(config, tmp_path):
        shortage()
    assert message in str(error.value)


def test_help_is_quick_and_shows_a_command() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "training", "finetune", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python -m training finetune configs/lora.yaml" in run.stdout
    assert not {"torch", "transformers", "polars"} & {
        line.rpartition("|")[2].strip() for line in run.stderr.splitlines()
    }


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_categories_are_left_out_of_so_many_impressions(
    share: float, tiny: Path, prepared: Path
) -> None:
    config = FinetuneConfig(layout="categories", category_dropout=share)
    data = PreparedData(prepared)
    builder = make_builder(config, tiny, data)
    groups = read_groups(config, data, builder, read_answers(builder, tiny))
    total = data.count("train")
    texts = {builder.encoder.text(group.prefix + group.branches[0].tail) for group in groups}
    categories = {story.category for story in data.stories if story.category}
    without = [t for t in texts if not any(f"\n{category}: " in t for category in categories)]
    assert len(texts) == total
    assert (len(without) == 0) if share == 0 else (0.2 < len(without) / total < 0.8)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_so_many_impressions_are_learned_as_a_chat(
    share: float, tiny: Path, prepared: Path
) -> None:
    config = FinetuneConfig(chat_share=share)
    data = PreparedData(prepared)
    builder = make_builder(config, tiny, data)
    groups = read_groups(config, data, builder, read_answers(builder, tiny))
    texts = {builder.encoder.text(group.prefix + group.branches[0].tail) for group in groups}
    chats = [text for text in texts if text.endswith("'No.'<|im_end|>\n<|im_start|>assistant\n")]
    assert all("\nUser click histories: " in text for text in chats)
    assert (len(chats) == 0) if share == 0 else (0.2 < len(chats) / data.count("train") < 0.8)
