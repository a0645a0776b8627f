"""Each method on a tiny model: its loss falls, and what it saves loads and scores the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.engine.lora import LoraError
from tests.support.tiny_training import arguments, finetune, losses, make_builder, make_tiny
from training.__main__ import main
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.packed.scorer import score
from training.tuning import methods
from training.tuning.config import LORA_TARGET, FinetuneConfig
from training.tuning.validation import measure

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "lora-dropout": {"method": "lora", "lora_dropout": 0.1, "lora_target": "q_proj, v_proj"},
    "lora-rslora": {"method": "lora", "lora_target": "all", "peft": {"use_rslora": True}},
    "lora-bf16": {"method": "lora", "dtype": "bfloat16", "bf16": True},
    "qlora": {"method": "qlora", "gradient_checkpointing": True},
    "qlora-8bit": {"method": "qlora", "quantization_bit": 8},
    "full": {"method": "full", "learning_rate": 3e-3},
    "full-sft": {"method": "full", "learning_rate": 3e-3, "objective": "sft"},
    "p_tuning": {"method": "p_tuning", "learning_rate": 0.1},
    "p_tuning-projection": {"method": "p_tuning", "prefix_projection": True},
    "adapter": {"method": "adapter", "gradient_checkpointing": True},
}
LIMIT = 512


@pytest.mark.parametrize("name", METHODS)
def test_trains_and_reloads(name: str, tiny: Path, prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    log = finetune(tiny, prepared, output, num_train_epochs=6, max_samples=40, **METHODS[name])
    first, *_, last = losses(log)
    assert last < 0.8 * first
    model = reload(name, output, tiny)
    impressions = PreparedData(prepared).sample_evenly("val", 6)
    found = measure(impressions, score(model, make_builder(tiny), impressions, limit=LIMIT))
    # bitsandbytes computes in half precision where no gradient is wanted, on a CPU that can.
    near = 2e-2 if name in ("qlora", "qlora-8bit", "lora-bf16") else 1e-4
    assert found["loss"] == pytest.approx(log[-1]["eval_loss"], abs=near)
    assert found["mass"] == pytest.approx(log[-1]["eval_mass"], abs=near)


def reload(name: str, output: Path, base: Path) -> Any:
    """As scoring loads it; a QLoRA adapter onto the quantized base that it was trained on."""
    config = FinetuneConfig(**METHODS[name])
    if config.method != "qlora":
        dtype = torch.bfloat16 if config.dtype == "bfloat16" else "auto"
        return methods.load_trained(output, base, dtype)
    from peft import PeftModel

    quantized = methods.load_base(
        base, torch.float32, quantization=methods.quantize(config, torch.float32)
    )
    return PeftModel.from_pretrained(quantized, output)


def test_lora_files_are_as_vllm_reads_them(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=5)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny.name
    assert sorted(config["target_modules"]) == sorted(LORA_TARGET)
    names = load_file(tmp_path / "out" / "adapter_model.safetensors").keys()
    assert len(names) == 2 * 7 * 2  # layers, modules, A and B
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names


def test_projection_is_folded_in_when_saved(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    """Only the keys and values that it makes are kept: 20 tokens, 2 layers, 2 heads of 16."""
    options = METHODS["p_tuning-projection"]
    finetune(tiny, prepared, tmp_path / "out", max_samples=5, **options)
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        "prompt_embeddings": (20, 2 * 2 * 2 * 16)
    }


def test_a_whole_model_keeps_its_bases_precision(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    base = make_tiny(tmp_path / "half")
    model = methods.load_base(base)
    model.bfloat16().save_pretrained(base)
    finetune(base, prepared, tmp_path / "out", max_samples=5, method="full")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    resumable = load_file(next((tmp_path / "out").glob("checkpoint-*")) / "trainable.safetensors")
    assert {w.dtype for w in resumable.values()} == {torch.float32}


@pytest.mark.parametrize("method", ["lora", "p_tuning", "adapter"])
def test_an_adapter_of_another_base_is_refused(
    method: str, tiny: Path, prepared: Path, tmp_path: Path
) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=5, method=method)
    (tmp_path / "wide").mkdir()
    wide = make_tiny(tmp_path / "wide", hidden=80 if method != "p_tuning" else 64)
    if method == "p_tuning":
        config = json.loads((wide / "config.json").read_text())
        (wide / "config.json").write_text(json.dumps(config | {"head_dim": 8}))
    with pytest.raises((TrainingError, LoraError)) as error:
        methods.load_trained(tmp_path / "out", wide)
    assert "fit" in str(error.value) or "can't be loaded" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_needs_its_base_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="name its base model with --base"):
        methods.load_trained(tmp_path)


def test_bad_options_of_libraries_are_named(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"peft": {"use_rsloar": True}}, "use_rsloar"),
        ({"lora_target": "qq_proj"}, "qq_proj"),
        ({"trainer": {"wieght_decay": 1}}, "did you mean 'weight_decay'?"),
        ({"optim": "adamm"}, "adamm"),
    ):
        with pytest.raises(TrainingError, match=message):
            run(tiny, prepared, tmp_path / "out", options)


def run(model: Path, data: Path, output: Path, options: dict[str, Any]) -> None:
    from training.tuning.run import finetune as start

    start(FinetuneConfig(**options), model, data, output, resume=False)


def test_training_goes_on_from_an_adapter(tiny: Path, prepared: Path, tmp_path: Path) -> None:
    """The first loss is where the earlier run ended, and the adapter itself is left as it was."""
    first = tmp_path / "first"
    *_, last = losses(finetune(tiny, prepared, first, num_train_epochs=6, max_samples=40))
    before = (first / "adapter_model.safetensors").read_bytes()
    again = {"max_samples": 40, "learning_rate": 1e-9}
    start, *_ = losses(finetune(tiny, prepared, tmp_path / "fresh", **again))
    onward = {**again, "adapter_name_or_path": str(first)}
    on, *_ = losses(finetune(tiny, prepared, tmp_path / "on", **onward))
    assert on == pytest.approx(last, rel=0.2)
    assert on < 0.8 * start
    assert (first / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 4}, "has lora_rank 8, not 4"),
        ({"lora_alpha": 32}, "has lora_alpha 16, not 32"),
        ({"lora_target": "q_proj"}, "was trained on other matrices"),
        ({"layout": "categories"}, "another layout"),
    ],
)
def test_an_adapter_of_other_options_is_refused(
    options: dict[str, Any],
    message: str,
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finetune(tiny, prepared, tmp_path / "first", max_samples=10)
    onward = {**options, "adapter_name_or_path": str(tmp_path / "first")}
    assert main(arguments(tiny, prepared, tmp_path / "on", **onward)) == 1
    assert message in capsys.readouterr().err
