"""Merging against PEFT's own, the check that guards it, and the bases it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from app.engine.fingerprint import fingerprint, sampled_fingerprint
from app.engine.lora import PREFIX
from app.engine.weights import weight_files
from app.scoring.profile import load_profile
from tests.support.lora_adapters import SEVEN, make_adapter
from tests.support.models import ROOT
from tests.support.tiny_training import arguments, finetune, make_builder, make_tiny
from training.__main__ import main
from training.merging import weights
from training.merging.check import log_odds, make_impressions
from training.tuning.methods import load_trained

TRAIN_ONLY = ["bitsandbytes", "matplotlib", "modelscope", "orjson", "peft", "polars", "sklearn"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"0.mlp.up_proj": 3}},
    "few": {"target_modules": ["q_proj", "v_proj"]},
}


def run(base: Path, output: Path, *adapters: Path, check: bool = True) -> int:
    named = [part for adapter in adapters for part in ("--adapter", str(adapter))]
    more = [] if check else ["--no-check"]
    return main(["merge", "--base", str(base), *named, "--output", str(output), *more])


def tensors(folder: Path) -> dict[str, Tensor]:
    files = set(weight_files(folder).values())
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_pefts_merge_in_float32_cast_once(half: Path, tmp_path: Path, variant: str) -> None:
    adapter = make_adapter(half, tmp_path / "adapter", **VARIANTS[variant])
    assert run(half, tmp_path / "out", adapter, check=False) == 0
    model = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    expected = PeftModel.from_pretrained(model, adapter).merge_and_unload().bfloat16().state_dict()
    merged = tensors(tmp_path / "out")
    changed = 0
    for name, tensor in merged.items():
        assert tensor.dtype == torch.bfloat16
        # B·A may be summed in another order: at most a rounding of the last bit.
        torch.testing.assert_close(tensor, expected[name], rtol=2**-7, atol=1e-6)
        changed += not torch.equal(tensor, tensors(half)[name])
    assert changed == 2 * len(VARIANTS[variant].get("target_modules", SEVEN))


def test_a_trained_adapter_merges_with_its_profile_and_tokenizer(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(tiny, prepared, tmp_path / "adapter", max_samples=20, calibration_impressions=18)
    assert run(tiny, tmp_path / "out", tmp_path / "adapter") == 0
    assert "merged and unmerged log-odds differ by at most" in capsys.readouterr().out
    assert load_profile(tmp_path / "out") == load_profile(tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (tmp_path / "out" / name).is_file()
    record = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert record["prompts"] == 64
    assert record["max_difference"] < 1e-4 < 0.01 < record["adapter_effect"]
    assert record["base_fingerprint"] == fingerprint(tiny)
    # Once more over its own output, with the data set's prompts.
    data = ["--data", str(prepared)]
    paths = ["--base", str(tiny), "--adapter", str(tmp_path / "adapter")]
    assert main(["merge", *paths, "--output", str(tmp_path / "out"), *data]) == 0


def test_shards_load_as_one_model(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(half, tmp_path / "adapter")
    assert run(half, tmp_path / "one", adapter, check=False) == 0
    monkeypatch.setattr(weights, "SHARD_BYTES", 40_000)
    assert run(half, tmp_path / "many", adapter) == 0
    shards = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    one, many = (tensors(tmp_path / name) for name in ("one", "many"))
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    # A sharded model is a base as well.
    assert run(tmp_path / "many", tmp_path / "twice", adapter, check=False) == 0


def test_several_adapters_are_averaged(tiny: Path, tmp_path: Path) -> None:
    one = make_adapter(tiny, tmp_path / "a", seed=1)
    other = make_adapter(tiny, tmp_path / "b", seed=2, r=8)
    assert run(tiny, tmp_path / "out", one, other) == 0  # checked against PEFT's own average
    for folder, adapter in ((tmp_path / "m1", one), (tmp_path / "m2", other)):
        assert run(tiny, folder, adapter, check=False) == 0
    first, second, both = (tensors(tmp_path / name) for name in ("m1", "m2", "out"))
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=0, atol=1e-6)


MEANS: dict[str, list[dict[str, Any]]] = {
    "rslora": [{"use_rslora": True}, {"use_rslora": True}],
    "ranks": [{"r": 2}, {"r": 8}],
    "mixed": [{"use_rslora": True, "r": 9}, {}, VARIANTS["patterns"], VARIANTS["few"]],
}


@pytest.mark.parametrize("stored", ["half", "tiny"])
@pytest.mark.parametrize("kinds", MEANS)
def test_the_mean_of_any_adapters_on_any_base_passes_the_check(
    stored: str, kinds: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(stored)
    adapters = [
        make_adapter(base, tmp_path / str(seed), seed, **options)
        for seed, options in enumerate(MEANS[kinds])
    ]
    assert run(base, tmp_path / "out", *adapters) == 0
    found = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert found["max_difference"] < (0.1 if stored == "half" else 1e-3)
    assert found["adapter_effect"] > 0.1


def without_prefix(adapter: Path, folder: Path) -> Path:
    """The same adapter as other programs write it."""
    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    named = load_file(file)
    save_file({name.removeprefix(PREFIX): tensor for name, tensor in named.items()}, file)
    return folder


def test_tensors_without_pefts_prefix_are_scored_and_merged_like_those_with_it(
    tiny: Path, tmp_path: Path
) -> None:
    one = make_adapter(tiny, tmp_path / "one", r=3)
    other = make_adapter(tiny, tmp_path / "other", seed=5)
    bare = [without_prefix(adapter, tmp_path / f"bare-{adapter.name}") for adapter in (one, other)]
    impressions, builder = make_impressions(None), make_builder(tiny)
    odds = [log_odds(load_trained(folder, tiny), builder, impressions) for folder in (one, bare[0])]
    assert odds[0].tolist() == odds[1].tolist()
    assert odds[0].tolist() != log_odds(load_trained(tiny), builder, impressions).tolist()
    assert run(tiny, tmp_path / "usual", one, other) == 0
    assert run(tiny, tmp_path / "out", *bare) == 0
    assert fingerprint(tmp_path / "usual") == fingerprint(tmp_path / "out")


def test_a_weight_with_and_without_the_prefix_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(tiny, tmp_path / "adapter", target_modules=["k_proj"])
    file = adapter / "adapter_model.safetensors"
    named = load_file(file)
    bare = {name.removeprefix(PREFIX): tensor.clone() for name, tensor in named.items()}
    save_file(named | bare, file)
    assert run(tiny, tmp_path / "out", adapter) == 1
    assert "is there with and without base_model.model." in capsys.readouterr().err


def test_a_merged_checkpoint_keeps_the_prompt_it_was_trained_with(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"max_samples": 20, "history": 4, "layout": "categories"}
    finetune(tiny, prepared, tmp_path / "run", **options)
    checkpoint = min((tmp_path / "run").glob("checkpoint-*"))
    assert run(tiny, tmp_path / "out", checkpoint) == 0
    profile = load_profile(tmp_path / "out")
    assert (profile.layout.name, profile.history) == ("categories", 4)
    assert "original project's prompt" not in capsys.readouterr().err
    (checkpoint / "profile.json").unlink()
    assert run(tiny, tmp_path / "out", checkpoint) == 0
    assert "has no profile.json: the merged model will get the original project's prompt" in (
        capsys.readouterr().err
    )


def spoil(file: Path, part: str, number: float) -> None:
    """Replace the last number of the first tensor whose name holds `part`."""
    named = load_file(file)
    named[next(name for name in sorted(named) if part in name)].view(-1)[-1] = number
    save_file(named, file, metadata={"format": "pt"})


def test_numbers_that_are_not_finite_are_not_merged(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the second of two adapters; and a sum that a base in half precision can't hold."""
    good = make_adapter(half, tmp_path / "good")
    bad = make_adapter(half, tmp_path / "bad", seed=1)
    spoil(bad / "adapter_model.safetensors", "up_proj.lora_B", float("inf"))
    assert run(half, tmp_path / "out", good, bad, check=False) == 1
    assert "up_proj.lora_B.weight holds a NaN or an infinity" in capsys.readouterr().err

    narrow = tmp_path / "narrow"
    AutoModelForCausalLM.from_pretrained(half).half().save_pretrained(narrow)
    spoil(good / "adapter_model.safetensors", "v_proj.lora_B", 1e6)
    assert run(narrow, tmp_path / "out", good, check=False) == 1
    line = capsys.readouterr().err
    assert "v_proj.weight holds a NaN or an infinity after merging" in line
    assert "beyond torch.float16" in line
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_where_the_check_fails(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.merging import check

    monkeypatch.setattr(check, "MAX_ROUNDING", dict.fromkeys(check.MAX_ROUNDING, -1.0))
    monkeypatch.setattr(check, "MAX_EFFECT_SHARE", 0.0)
    assert run(half, tmp_path / "out", make_adapter(half, tmp_path / "adapter")) == 1
    assert "not merged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_other_bases_and_adapters_are_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(base: Path, adapter: Path) -> str:
        assert run(base, tmp_path / "out", adapter) == 1
        assert not (tmp_path / "out").exists()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        return line

    adapter = make_adapter(tiny, tmp_path / "adapter")
    for name in ("wide", "quantized"):
        (tmp_path / name).mkdir()
        make_tiny(tmp_path / name, hidden=80 if name == "wide" else 64)
    line = refusal(tmp_path / "wide", adapter)
    assert "layers.0.mlp.down_proj.weight is (80, 160) in the base" in line
    assert "made for (64, 128)" in line

    edit(tmp_path / "quantized" / "config.json", quantization_config={"load_in_4bit": True})
    assert "is quantized" in refusal(tmp_path / "quantized", adapter)

    dora = make_adapter(tiny, tmp_path / "dora", use_dora=True)
    assert "use_dora is not supported" in refusal(tiny, dora)
    edit(dora / "adapter_config.json", use_dora=False)
    assert "lora_magnitude_vector is not a plain LoRA matrix" in refusal(tiny, dora)

    edit(adapter / "adapter_config.json", peft_type="PREFIX_TUNING")
    assert "PREFIX_TUNING adapter, not LORA" in refusal(tiny, adapter)
    assert "not a PEFT adapter" in refusal(tiny, tiny)


def test_weights_of_another_training_are_told_apart(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same shapes, other weights: only the fingerprint of the run can tell."""
    finetune(tiny, prepared, tmp_path / "adapter", max_samples=5)
    shutil.copytree(tiny, tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    assert run(tmp_path / "other", tmp_path / "out", tmp_path / "adapter") == 1
    assert "same shapes, another fingerprint" in capsys.readouterr().err


def test_what_an_earlier_version_trained_still_fits_its_base(
    tiny: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its run.json and finetune.json hold a fingerprint by the rule of its day."""
    adapter = tmp_path / "adapter"
    finetune(tiny, prepared, adapter, max_samples=5)
    for name in ("run.json", "finetune.json"):
        edit(adapter / name, base_fingerprint=sampled_fingerprint(tiny))
    assert run(tiny, tmp_path / "out", adapter, check=False) == 0
    assert main([*arguments(tiny, prepared, adapter, max_samples=5), "--resume"]) == 0
    merged_again = tmp_path / "twice"
    assert run(tmp_path / "out", merged_again, adapter, check=False) == 1
    assert "same shapes, another fingerprint" in capsys.readouterr().err


@pytest.mark.parametrize("variant", VARIANTS)
def test_undone_a_merged_model_is_its_base(half: Path, tmp_path: Path, variant: str) -> None:
    adapter = make_adapter(half, tmp_path / "adapter", **VARIANTS[variant])
    written = {"history": 7, "calibration": {"slope": 0.5, "intercept": -3}, "threshold": 0.1}
    (adapter / "profile.json").write_text(json.dumps(written))
    assert run(half, tmp_path / "merged", adapter, check=False) == 0
    undone = ["undo", "--adapter", str(adapter), "--output", str(tmp_path / "undone")]
    assert main(undone) == 0
    assert run(tmp_path / "merged", tmp_path / "back", tmp_path / "undone", check=False) == 0
    base, merged, back = (
        tensors(folder) for folder in (half, tmp_path / "merged", tmp_path / "back")
    )
    for name, tensor in base.items():
        off = (back[name] - tensor).abs().max()
        assert off <= 2**-7 * merged[name].abs().max()  # two roundings to bfloat16
        if not torch.equal(merged[name], tensor):
            assert off < (merged[name] - tensor).abs().max() / 4
    profile = load_profile(tmp_path / "undone")
    assert (profile.history, profile.calibration.slope, profile.threshold) == (7, 1.0, 0.5)


def test_merging_unchecked_needs_only_the_services_packages(half: Path, tmp_path: Path) -> None:
    """`make serve` merges, and `merged` does, where training's packages are missing."""
    adapter = make_adapter(half, tmp_path / "adapter")
    code = f"""if True:
        import sys
        sys.modules |= dict.fromkeys({TRAIN_ONLY!r})  # importing None fails
        from training.__main__ import main
        sys.exit(main(sys.argv[1:]))"""
    merging = ["merge", "--no-check", "--base", str(half), "--adapter", str(adapter)]
    command = [sys.executable, "-c", code, *merging, "--output", str(tmp_path / "merged")]
    subprocess.run(command, check=True, cwd=ROOT)
    assert run(half, tmp_path / "same", adapter, check=False) == 0
    assert fingerprint(tmp_path / "merged") == fingerprint(tmp_path / "same")
