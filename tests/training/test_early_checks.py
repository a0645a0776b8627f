"""What finetune says before its first step, and what does not end a run any more."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from tests.support.tiny_training import arguments, finetune, losses, make_builder
from training.__main__ import main
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.packed.prompts import build_prompts
from training.tuning import methods
from training.tuning.checks import serving_limits
from training.tuning.config import FinetuneConfig


@pytest.fixture
def copied(prepared: Path, tmp_path: Path) -> Path:
    """A prepared set that a test may change."""
    shutil.copytree(prepared, tmp_path / "copied")
    return tmp_path / "copied"


def relabel(data: Path, label: Callable[[int], bool]) -> None:
    """Give each validation impression's candidates one label, by the impression's number."""
    rows = pl.read_parquet(data / "val.parquet")
    flags = [[label(row)] * len(shown) for row, shown in enumerate(rows["candidates"])]
    kind = rows["clicked"].dtype
    rows.with_columns(clicked=pl.Series(flags, dtype=kind)).write_parquet(data / "val.parquet")


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (lambda row: False, {"val_size": 5}, "that val_size asks for have non-clicks alone"),
        (lambda row: True, {"val_size": 0.5}, "that val_size asks for have clicks alone"),
        (
            lambda row: True,
            {"val_size": 0, "calibration_impressions": None},
            "that calibration_impressions asks for have clicks alone",
        ),
        (lambda row: row > 0, {"val_size": 0, "calibration_impressions": 1}, "non-clicks alone"),
    ],
)
def test_validation_data_without_both_labels_is_found_before_the_model_is_loaded(
    label: Callable[[int], bool],
    options: dict[str, Any],
    message: str,
    tiny: Path,
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    relabel(copied, label)
    monkeypatch.setattr(methods, "create", lambda *_: pytest.fail("the model was loaded"))
    assert main(arguments(tiny, copied, copied.parent / "out", **options)) == 1
    assert message in capsys.readouterr().err


def test_without_validation_no_split_is_needed(tiny: Path, copied: Path) -> None:
    (copied / "val.parquet").unlink()
    options: dict[str, Any] = {"val_size": 0, "calibration_impressions": 0, "max_samples": 5}
    assert losses(finetune(tiny, copied, copied.parent / "out", **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_target": ["q_proj", "vproj"]}, "no module 'vproj'; did you mean 'v_proj'?"),
        ({"lora_target": "gate_proj, downproj"}, "did you mean 'down_proj'?"),
        ({"lora_target": ["layers.0.mlp.up_proj", "layers.7.mlp.up_proj"]}, "layers"),
        ({"peft": {"rank_pattern": {"o_prj": 4}}}, "peft.rank_pattern: the model has no module"),
        ({"peft": {"exclude_modules": ["k_pro"]}}, "peft.exclude_modules: the model has no"),
    ],
)
def test_modules_that_the_model_does_not_have_are_named(
    options: dict[str, Any], message: str, tiny: Path
) -> None:
    with pytest.raises(TrainingError) as error:
        methods.create(FinetuneConfig(**options), tiny, methods.Placement())
    assert message in str(error.value)


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"peft": {"use_dora": True}}, "only evaluated: use_dora"),
    ({"peft": {"modules_to_save": ["norm"]}}, "modules_to_save"),
    ({"peft": {"bias": "all"}}, "bias"),
    ({"peft": {"init_lora_weights": "pissa_niter_2"}}, "init_lora_weights pissa_niter_2"),
    ({"peft": {"trainable_token_indices": {"embed_tokens": [5, 6]}}}, "trainable_token_indices"),
    ({"lora_rank": 513}, "rank 513 (at most 512)"),
    ({"peft": {"rank_pattern": {"q_proj": 640}}}, "rank 640 (at most 512)"),
    ({"method": "p_tuning"}, "p_tuning makes can't be served or merged"),
    ({"method": "adapter"}, "adapter makes can't be served or merged"),
]


@pytest.mark.parametrize(("options", "message"), LIMITS, ids=[message for _, message in LIMITS])
def test_what_cant_be_served_later_is_known(
    options: dict[str, Any], message: str, tiny: Path
) -> None:
    config = FinetuneConfig(**options)
    found = serving_limits(config, methods.create(config, tiny, methods.Placement()))
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("target", "tied", "message"),
    [
        ("lm_head", False, "can be served merged only: it adapts lm_head"),
        ("lm_head", True, "only evaluated: lora_target lm_head"),
        ("embed_tokens", False, "only evaluated: lora_target model.embed_tokens"),
    ],
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_vocabularies_are_hardly_served(
    target: str, tied: bool, message: str, tiny: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    file = base / "config.json"
    old, new = '"tie_word_embeddings": true', f'"tie_word_embeddings": {json.dumps(tied)}'
    file.write_text(file.read_text().replace(old, new))
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    config = FinetuneConfig(lora_target=("q_proj", target))
    [found] = serving_limits(config, methods.create(config, base, methods.Placement()))
    assert message in found


@pytest.mark.parametrize("options", [{}, {"peft": {"use_rslora": True}}, {"method": "full"}])
def test_what_can_be_served_has_no_limits(options: dict[str, Any], tiny: Path) -> None:
    config = FinetuneConfig(**options)
    model = methods.create(config, tiny, methods.Placement())
    assert serving_limits(config, model) == []


def test_the_warning_comes_before_the_first_step(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, prepared, tmp_path / "out", max_samples=5, peft={"use_dora": True})
    text = capsys.readouterr().out
    assert 0 < text.index("warning: this adapter can't be served") < text.index("step 1/")


def lengthen(data: Path, story: str) -> None:
    """The story's title becomes one of 4,000 words, which no prompt has room for."""
    news = pl.read_parquet(data / "news.parquet")
    long = pl.lit("Tesla " * 4000)
    title = pl.when(pl.col("id") == story).then(long).otherwise(pl.col("title"))
    news.with_columns(title=title).write_parquet(data / "news.parquet")


@pytest.mark.parametrize("rule", ["cut", "skip"])
def test_a_long_title_ends_no_run(
    rule: str,
    tiny: Path,
    copied: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In training, in evaluations, in calibration, and in the commands calibrate and evaluate."""
    every = list(PreparedData(copied).impressions("val"))
    lengthen(copied, every[0].candidate_ids[0])
    trained = list(PreparedData(copied).impressions("train"))
    lengthen(copied, trained[0].candidate_ids[0])
    out = copied.parent / "out"
    options: dict[str, Any] = {"long_titles": rule, "calibration_impressions": None}
    finetune(tiny, copied, out, val_size=18, num_train_epochs=1, **options)
    shown = capsys.readouterr()
    said = rf"[1-9]\d* candidates with titles too long for cutoff_len: {rule}"
    assert re.search(said, shown.err)
    total = sum(len(impression.candidates) for impression in trained)
    assert (f"\n{total:,} samples in" in shown.out) == (rule == "cut")
    where = ["--data", str(copied), "--base", str(tiny)]
    assert main(["calibrate", str(out), *where]) == 0


def test_a_cut_title_is_as_long_as_fits(tiny: Path, prepared: Path) -> None:
    builder = make_builder(tiny)
    impression = next(PreparedData(prepared).impressions("val", 1))
    long = impression.candidates[0].__class__("storm " * 500)
    stories = [impression.candidates[0], long, *impression.candidates[1:3]]
    prompts, cut = build_prompts(builder, impression.reader, stories, 256, "i")
    assert cut == [1]
    assert 250 < len(prompts[1].tokens) <= 256
    plain, none_cut = build_prompts(builder, impression.reader, stories[:1], 256, "i")
    assert none_cut == []
    assert prompts[0] == plain[0]  # its neighbour changes nothing
