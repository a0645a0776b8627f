"""What finetune says of time and memory before it begins, and when it does not begin."""

from pathlib import Path

import pytest
import torch

from tests.support.tiny_training import FAST, arguments, finetune
from training import memory
from training.__main__ import main
from training.data.prepared import PreparedData
from training.tuning.config import FinetuneConfig
from training.tuning.outlook import foresee, foresee_memory, measure_step
from training.tuning.run import make_trainer
from training.tuning.trainer import AnswerTrainer


def trainer(tiny: Path, prepared: Path, output: Path, **options: object) -> AnswerTrainer:
    config = FinetuneConfig(**(FAST | options))  # type: ignore[arg-type]
    return make_trainer(config, tiny, PreparedData(prepared), output)


def needed(made: AnswerTrainer) -> int:
    """Bytes at the peak, without those of the process before."""
    group = made.rows[0][0]
    step = measure_step(made, group)
    return foresee_memory(made, step)[0] - step.before


def test_a_run_says_what_it_will_take(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=20)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("estimate")]
    assert "training " in line
    assert "validation " in line
    assert " GB of memory at the peak" in line
    assert lines.index(line) < lines.index("starting a new run")


def test_more_tokens_in_a_step_need_more_memory_and_checkpointing_less(
    tiny: Path, prepared: Path, tmp_path: Path
) -> None:
    plain = needed(trainer(tiny, prepared, tmp_path / "plain"))
    longer = needed(trainer(tiny, prepared, tmp_path / "longer", row_tokens=2048))
    wider = needed(trainer(tiny, prepared, tmp_path / "wider", per_device_train_batch_size=4))
    less = needed(trainer(tiny, prepared, tmp_path / "less", gradient_checkpointing=True))
    assert less < plain < min(longer, wider)


def test_the_measured_step_changes_nothing(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    made = trainer(tiny, prepared, tmp_path / "out", lora_dropout=0.5)
    model = made.accelerator.unwrap_model(made.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    step = measure_step(made, made.rows[0][0])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert step.saved > 0
    assert foresee(made, PreparedData(prepared), step).training_s > 0


def test_a_run_that_does_not_fit_into_memory_is_refused_and_changes_nothing(
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=5)
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    capsys.readouterr()
    checked: list[str] = []

    def free() -> int:
        """Enough for the weights alone."""
        checked.append("")
        return 10**9 if len(checked) == 1 else 0

    monkeypatch.setattr(memory, "free_memory", free)
    assert main(arguments(tiny, prepared, tmp_path / "out", max_samples=5)) == 1
    line = capsys.readouterr().err
    assert "error: not enough memory: training needs about" in line
    assert "lower per_device_train_batch_size or row_tokens" in line
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_a_model_that_does_not_fit_into_memory_is_not_loaded(
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    assert main(arguments(tiny, prepared, tmp_path / "out", max_samples=5)) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"error: not enough memory: {tiny} in float32 needs about")


def test_a_close_fit_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 10 * memory.GB)
    memory.check_room(7 * memory.GB, "training", "do less")
    assert capsys.readouterr().err == ""
    memory.check_room(9 * memory.GB, "training", "do less")
    assert "training needs about 9.0 GB more, and 10.0 GB are free; do" in capsys.readouterr().err
