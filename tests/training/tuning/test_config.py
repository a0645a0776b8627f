"""One experiment's options: what is accepted, and what a mistake is told."""

from pathlib import Path

import pytest

from app.scoring.profile import COMPACT, ORIGINAL
from tests.support.models import ROOT
from training.errors import TrainingError
from training.tuning.config import LORA_TARGET, FinetuneConfig, read_config

CONFIGS = sorted({*(ROOT / "configs").glob("*.yaml")} - {ROOT / "configs" / "refresh.yaml"})


def write(folder: Path, text: str) -> Path:
    file = folder / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_are_the_original_projects(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "method: lora\n"))
    assert (config.lora_rank, config.lora_alpha, config.lora_target) == (8, 16, LORA_TARGET)
    assert len(LORA_TARGET) == 7
    assert read_config(write(tmp_path, "")) == FinetuneConfig()


def test_numbers_in_yamls_short_form(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a string."""
    assert read_config(write(tmp_path, "learning_rate: 1e-4\n")).learning_rate == 1e-4


@pytest.mark.parametrize("text", ["1e-2", "1E-2", "+1e-2", "1.e-2", ".1e-1"])
def test_numbers_in_short_form_reach_libraries_as_numbers(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, f"trainer:\n  weight_decay: {text}\nmax_samples: 1e3\n")
    config = read_config(file, [f"trainer.max_grad_norm={text}", "peft.revision=e5"])
    assert config.trainer == {"weight_decay": 0.01, "max_grad_norm": 0.01}
    assert config.max_samples == 1000
    assert config.peft == {"revision": "e5"}


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    settings = ["lora_rank=16", "trainer.weight_decay=0.1", "lora_target=[q_proj, v_proj]"]
    config = read_config(write(tmp_path, "lora_rank: 4\n"), settings)
    assert config.lora_rank == 16
    assert config.trainer == {"weight_decay": 0.1}
    assert config.lora_target == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("lora_rnak: 8\n", [], "unknown option 'lora_rnak'; did you mean 'lora_rank'?"),
        ("", ["seeed=1"], "unknown option 'seeed'; did you mean 'seed'?"),
        ("learning_rate: fast\n", [], "learning_rate: Input should be a valid number"),
        ("learning_rate: -1\n", [], "learning_rate: Input should be greater than 0"),
        ("method: lorra\n", [], "method: Input should be 'lora'"),
        ("row_tokens: 512\n", [], "row_tokens must be at least cutoff_len (1024)"),
        ("layout: compacted\n", [], "unknown layout 'compacted'"),
        ("method: p_tuning\ngradient_checkpointing: true\n", [], "set it to false"),
        ("- lora\n", [], "must hold `option: value` lines"),
        ("a: b: c\n", [], "is not YAML"),
        ("", ["lora_rank"], "write it as name=value"),
        ("seed: 1\n", ["seed.x=1"], "seed is not a mapping"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, settings: list[str], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        read_config(write(tmp_path, text), settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.yaml: No such file"):
        read_config(tmp_path / "none.yaml")


def test_layouts_by_name_and_whole(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "layout: original\n")).profile().layout == ORIGINAL
    whole = FinetuneConfig(layout=COMPACT.model_dump(mode="json"))
    assert whole.profile(base_model="b").layout == COMPACT
    assert whole.profile(base_model="b").base_model == "b"


def test_a_chat_is_learned_too_where_the_layout_is_none(tmp_path: Path) -> None:
    assert FinetuneConfig().profile().chat_layout == ORIGINAL
    assert FinetuneConfig(chat_share=0).profile().chat_layout is None
    assert FinetuneConfig(layout="compact").profile().chat_layout is None
    assert FinetuneConfig(chat_layout="compact").profile().chat_layout == COMPACT
    with pytest.raises(TrainingError, match="chat_layout: tight is not a chat"):
        read_config(write(tmp_path, "chat_layout: tight\n"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configs(file: Path) -> None:
    if file.stem == "fsdp":  # accelerate's, not ours
        return
    method = file.stem.split("-")[0]
    assert read_config(file).method == {"news": "lora", "cpu": "lora"}.get(method, method)
