"""Files for LLaMA-Factory: what is read, what is ignored, and what is one error."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.tiny_training import FAST
from training.__main__ import main
from training.errors import TrainingError
from training.tuning.config import FinetuneConfig, read_config, read_options

ORIGINAL = """
### model
model_name_or_path: models/qwen3-8b
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset_dir: data/mind
dataset: mind
template: qwen3
cutoff_len: 4096
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4

### output
output_dir: saves/qwen3-8b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null

### eval
eval_dataset: mind_val
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_usual_file_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, ORIGINAL)
    found = read_options(file)
    assert found.places == {
        "model": "models/qwen3-8b",
        "data": "data/mind",
        "output": "saves/qwen3-8b/lora/sft",
    }
    assert set(found.ignored) == {
        *("trust_remote_code", "dataset", "eval_dataset", "template", "overwrite_cache"),
        *("preprocessing_num_workers", "overwrite_output_dir", "resume_from_checkpoint"),
    }
    config = read_config(file)
    assert (config.method, config.lora_target, config.val_size) == ("lora", "all", 0.1)
    assert (config.cutoff_len, config.row_tokens, config.max_samples) == (4096, 4096, 1000)
    assert config.trainer == {
        "dataloader_num_workers": 4,
        "save_only_model": False,
        "report_to": "none",
        "ddp_timeout": 180000000,
        "eval_strategy": "steps",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("finetuning_type: lora\nquantization_bit: 4\nquantization_method: bitsandbytes", "qlora"),
        ("finetuning_type: lora\nquantization_bit: null\nlora_alpha: null", "lora"),
        ("finetuning_type: full\npure_bf16: true", "full"),
        ("finetuning_type: p_tuning\npre_seq_len: 16\nprefix_projection: true", "p_tuning"),
        ("finetuning_type: adapter\nadapter_size: 32", "adapter"),
        ("quantization_bit: 8\nmethod: lora", "lora"),  # ours: it belongs to method qlora
    ],
)
def test_methods(tmp_path: Path, text: str, expected: str) -> None:
    config = read_config(write(tmp_path, text))
    assert config.method == expected
    assert config.lora_alpha == 16
    if expected == "p_tuning":
        assert (config.num_virtual_tokens, config.prefix_projection) == (16, True)
    if expected == "full":
        assert config.dtype == "bfloat16"


def test_names_with_another_meaning(tmp_path: Path) -> None:
    text = "stage: sft\npacking: true\nfp16: true\nenable_thinking: false\nuse_rslora: true\n"
    text += "additional_target: norm, lm_head\nweight_decay: 0.1\nsave_strategy: no\n"
    config = read_config(write(tmp_path, text))
    assert config.packing == "samples"
    assert config.bf16 is False
    assert config.peft == {"use_rslora": True, "modules_to_save": ["norm", "lm_head"]}
    assert config.no_think
    assert config.trainer == {"fp16": True, "weight_decay": 0.1, "save_strategy": "no"}


def test_settings_win_and_ours_stay_as_they_are(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, ORIGINAL), ["finetuning_type=full", "row_tokens=8192"])
    assert (config.method, config.row_tokens) == ("full", 8192)
    ours = read_options(write(tmp_path, "lora_rank: 4\ntrainer: {weight_decay: 0.1}\n"))
    assert ours.options == {"lora_rank": 4, "trainer": {"weight_decay": 0.1}}
    assert (ours.places, ours.ignored) == ({}, [])


def test_all_that_cant_be_done_is_one_error(tmp_path: Path) -> None:
    text = """
stage: dpo
do_train: false
finetuning_type: freeze
quantization_method: hqq
shift_attn: true
use_galore: true
rope_scaling: null
lora_rnak: 8
warmup_stepz: 10
templat: qwen
"""
    with pytest.raises(TrainingError) as error:
        read_config(write(tmp_path, text))
    message = str(error.value)
    for part in (
        "stage dpo is not supported, only sft",
        "do_train False is not supported, only true",
        "finetuning_type freeze is not supported, only lora or full or p_tuning or adapter",
        "quantization_method hqq is not supported, only bitsandbytes or bnb",
        "shift_attn is not supported",
        "use_galore is not supported",
        "unknown option 'lora_rnak'; did you mean 'lora_rank'?",
        "unknown option 'warmup_stepz'; did you mean 'warmup_steps'?",
        "unknown option 'templat'; did you mean 'template'?",
    ):
        assert part in message
    assert "rope_scaling" not in message
    assert "\n" not in message


def test_all_values_that_cant_be_used_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"learning_rate: .*, and seed: .*"):
        read_config(write(tmp_path, "stage: sft\nlearning_rate: fast\nseed: one\n"))


def test_a_run_needs_nothing_but_its_file(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = FAST | {"stage": "sft", "do_train": True, "template": "qwen"}
    options |= {"finetuning_type": "lora", "max_samples": 5, "weight_decay": 0.01}
    places = {"model_name_or_path": str(tiny), "dataset_dir": str(prepared)}
    file = write(tmp_path, yaml.safe_dump(options | places))
    assert main(["finetune", str(file)]) == 1
    assert "--output is missing, and" in capsys.readouterr().err
    file = write(tmp_path, yaml.safe_dump(options | places | {"output_dir": "elsewhere"}))
    assert main(["finetune", str(file), "--output", str(tmp_path / "out")]) == 0
    assert "ignored, for here it has no meaning: template" in capsys.readouterr().err
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    assert not Path("elsewhere").exists()


def test_every_option_of_ours_is_still_ours() -> None:
    from training.tuning.llama_factory import OWN

    assert not OWN & set(FinetuneConfig.__dataclass_fields__)
