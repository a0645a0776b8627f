"""quantize: weights of 8 bits as the library reads them, checked, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.engine.fingerprint import fingerprint, sampled_fingerprint
from app.engine.weights import weight_files
from app.errors import AdapterRejected
from app.models.adapter_folder import check_lora
from app.scoring.profile import RANKER_FILES
from app.settings import Settings
from tests.support.lora_adapters import make_adapter
from tests.support.models import ROOT
from tests.support.tiny_training import make_tiny
from tests.training.test_merge import TRAIN_ONLY
from training.__main__ import main
from training.errors import TrainingError
from training.merging import weights
from training.quantizing import check
from training.quantizing.options import QuantizeOptions
from training.quantizing.record import CheckFindings

LAYERS, MATRICES = 2, 7


def run(model: Path, output: Path, *more: str, to: str = "int8") -> int:
    return main(["quantize", "--model", str(model), "--to", to, "--output", str(output), *more])


def tensors(folder: Path) -> dict[str, Tensor]:
    files = set(weight_files(folder).values())
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def decompressed(folder: Path) -> dict[str, Tensor]:
    """The folder's tensors in float, by compressed-tensors' own functions and the folder's own
    configuration."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    (scheme,) = QuantizationConfig.model_validate(config).config_groups.values()
    library = BaseCompressor.get_value_from_registry(config["format"])
    found = tensors(folder)
    for name in [name for name in found if f"{name}_scale" in found]:
        parts = {"weight": found[name], "weight_scale": found.pop(f"{name}_scale").float()}
        found[name] = library.decompress(parts, scheme)["weight"]
    return found


@pytest.mark.parametrize(
    ("to", "dtype", "highest"), [("int8", torch.int8, 127), ("fp8", torch.float8_e4m3fn, 448)]
)
def test_the_library_reads_what_was_quantized(
    half: Path, tmp_path: Path, to: str, dtype: torch.dtype, highest: int
) -> None:
    """Each weight to within the rounding of its row; all else is as it was, bit by bit."""
    assert run(half, tmp_path / "out", "--no-check", to=to) == 0
    before, stored, back = tensors(half), tensors(tmp_path / "out"), decompressed(tmp_path / "out")
    quantized = {name for name, tensor in stored.items() if tensor.dtype == dtype}
    assert len(quantized) == LAYERS * MATRICES
    assert stored.keys() == before.keys() | {f"{name}_scale" for name in quantized}
    for name, tensor in before.items():
        if name not in quantized:
            assert torch.equal(stored[name], tensor)
            continue
        scale = stored[f"{name}_scale"]
        assert (scale.dtype, scale.shape) == (torch.bfloat16, (len(tensor), 1))
        assert stored[name].float().abs().amax(1).min() >= 0.99 * highest
        off = (back[name] - tensor.float()).abs()
        # Half a step of int8; of fp8 half of the last of three bits, or of the smallest step. The
        # row's largest weight may be cut, by the rounding of its scale to bfloat16.
        step = scale.float() / 2 if to == "int8" else back[name].abs() / 16 + scale.float() * 2**-10
        assert (off <= step + tensor.abs().float() * 2**-8).all()


def test_a_quantized_model_brings_its_files_and_a_record(
    half: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(half, model)
    (model / "profile.json").write_text(json.dumps({"layout": "compact", "history": 7}))
    for name in (*RANKER_FILES, "merge.json", "run.json"):
        (model / name).write_text("{}")
    assert run(model, tmp_path / "out", "--data", str(prepared)) == 0
    assert "on 128 prompts, log-odds differ by" in capsys.readouterr().out
    for name in (*RANKER_FILES, "profile.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()
    assert not (tmp_path / "out" / "run.json").exists()  # of the training of other weights
    record = json.loads((tmp_path / "out" / "quantize.json").read_text())
    assert (record["model"], record["to"], record["prompts"]) == ("model", "int8", 128)
    assert record["source_fingerprints"] == [fingerprint(half), sampled_fingerprint(model)]
    assert 0 < record["mean_difference"] < 0.2
    assert record["order"] > 0.8
    assert record["quantized_mass"] == pytest.approx(record["mass"], abs=0.01)
    # Once more over its own output, which an error leaves as it was.
    before = fingerprint(tmp_path / "out")
    assert run(model, tmp_path / "out", "--max-difference", "0") == 1
    assert fingerprint(tmp_path / "out") == before
    assert run(model, tmp_path / "out", to="fp8") == 0
    assert fingerprint(tmp_path / "out") != before


def test_adapters_of_the_unquantized_model_fit_and_others_do_not(
    half: Path, tmp_path: Path
) -> None:
    """By the fingerprint of their run, of this and of an earlier version, and by their shapes."""
    assert run(half, tmp_path / "out", "--no-check") == 0
    settings = Settings(model=tmp_path / "out")
    adapter = make_adapter(half, tmp_path / "adapter")
    for own in (fingerprint(half), sampled_fingerprint(half), fingerprint(tmp_path / "out")):
        trained = {"base_model": "half", "base_fingerprint": own}
        (adapter / "run.json").write_text(json.dumps(trained))
        assert check_lora(adapter, settings) == 4
    other = make_tiny(made(tmp_path / "other"), seed=5)
    edit(adapter / "run.json", base_fingerprint=fingerprint(other))
    with pytest.raises(AdapterRejected, match="same shapes, another fingerprint"):
        check_lora(adapter, settings)
    wide = make_tiny(made(tmp_path / "wide"), hidden=80)
    with pytest.raises(AdapterRejected, match="the adapter was made for"):
        check_lora(make_adapter(wide, tmp_path / "other-adapter"), settings)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_shards_hold_the_same_tensors(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(half, tmp_path / "one", "--no-check") == 0
    monkeypatch.setattr(weights, "SHARD_BYTES", 40_000)
    assert run(half, tmp_path / "many") == 0  # checked, so transformers loads it
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 3
    assert fingerprint(tmp_path / "many") == fingerprint(tmp_path / "one")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        t.nbytes for t in tensors(tmp_path / "one").values()
    )


def test_a_model_beyond_a_limit_is_not_kept_and_the_reason_has_numbers(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = ("--max-difference", "0", "--min-order", "1.01", "--max-mass-loss", "-1")
    assert run(half, tmp_path / "out", *strict) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: not quantized, on 64 prompts: log-odds differ by 0.")
    assert "on average (--max-difference 0); the rank correlation of a reader's stories is" in line
    assert "(--min-order 1.01); the two labels hold" in line
    assert line.endswith("(--max-mass-loss -1)")
    assert list(tmp_path.iterdir()) == []


def test_the_check_finds_broken_weights(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scales in the wrong order."""
    from training.quantizing import weights as quantizing

    original = quantizing.quantize

    def mixed_up(*given: Any) -> dict[str, Tensor]:
        found = original(*given)
        return {name: t.flip(0) if "_scale" in name else t for name, t in found.items()}

    monkeypatch.setattr(quantizing, "quantize", mixed_up)
    assert run(half, tmp_path / "out") == 1
    assert "rank correlation" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_all_equal_have_an_order() -> None:
    flat, rising = np.zeros(3), np.array([0.0, 1.0, 2.0])
    assert check.same_order(flat, flat) == 1
    assert check.same_order(flat, rising) == check.same_order(rising, flat) == 0
    assert check.same_order(rising, 2 * rising + 1) == pytest.approx(1)
    assert check.same_order(rising, -rising) == pytest.approx(-1)


def test_a_score_that_is_not_a_number_keeps_no_limit() -> None:
    nan = float("nan")
    loose = QuantizeOptions(Path("m"), "int8", Path("o"), None, 99, -99, 99, False)
    with pytest.raises(TrainingError, match=r"log-odds differ .* correlation .* labels hold"):
        check.check_limits(CheckFindings(64, nan, nan, nan, nan, nan), loose)


def test_what_can_not_be_quantized_is_refused(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(model: Path) -> str:
        assert run(model, tmp_path / "out") == 1
        assert not (tmp_path / "out").exists()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        return line

    assert "can't read" in refusal(tmp_path / "nowhere")
    assert "is an adapter: merge it" in refusal(make_adapter(half, tmp_path / "adapter"))
    assert run(half, tmp_path / "int8", "--no-check") == 0
    assert "is quantized: quantize the model it was made from" in refusal(tmp_path / "int8")

    spoiled = tmp_path / "spoiled"
    shutil.copytree(half, spoiled)
    named = tensors(half)
    where = "model.layers.1.mlp.up_proj.weight"
    named[where][3, 5] = float("nan")
    save_file(named, spoiled / "model.safetensors", metadata={"format": "pt"})
    assert f"{where} holds a NaN or an infinity" in refusal(spoiled)
    named["model.layers.0.mlp.experts.weight"] = torch.zeros(2, 2)
    save_file(named, spoiled / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.0.mlp.experts.weight is none of the matrices" in refusal(spoiled)
    (spoiled / "model.safetensors").write_bytes(b"\0" * 100)
    assert "can't be read" in refusal(spoiled)
    (spoiled / "model.safetensors").unlink()
    assert "holds no model.safetensors" in refusal(spoiled)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letters.txt").write_text("mine")
    assert run(half, tmp_path / "out") == 1
    assert "holds something else" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["letters.txt"]


def test_an_interrupted_run_leaves_nothing(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "score", stop)
    assert run(half, tmp_path / "out") == 130
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_result_and_the_next_one_cleans_up(
    half: Path, tmp_path: Path
) -> None:
    code = """if True:
        import os, sys
        from training.merging import weights
        weights.save_file = lambda *_, **__: os.kill(os.getpid(), 9)
        from training.__main__ import main
        main(sys.argv[1:])"""
    words = ["quantize", "--no-check", "--model", str(half), "--to", "int8"]
    command = [sys.executable, "-c", code, *words, "--output", str(tmp_path / "out")]
    done = subprocess.run(command, check=False, cwd=ROOT, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial").is_dir()
    assert run(half, tmp_path / "out", "--no-check") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_quantizing_unchecked_needs_only_the_services_packages(half: Path, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        sys.modules |= dict.fromkeys({TRAIN_ONLY!r})  # importing None fails
        from training.__main__ import main
        sys.exit(main(sys.argv[1:]))"""
    words = ["quantize", "--no-check", "--model", str(half), "--to", "int8"]
    command = [sys.executable, "-c", code, *words, "--output", str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=ROOT)
    assert run(half, tmp_path / "same", "--no-check") == 0
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "same")
