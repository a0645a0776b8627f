"""The cost benchmark on a tiny model: what it measures, and that a failure is a row."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.models import MIND, ROOT
from tests.support.tiny_training import make_tokenizer
from training.__main__ import main


def test_measures_a_method_after_one_that_fails(tmp_path: Path) -> None:
    data, file, tokenizer = (tmp_path / name for name in ("data", "cost.json", "tokenizer.json"))
    splits = ["--train", str(MIND / "train"), "--val", str(MIND / "val")]
    assert main(["prepare", *splits, "--out", str(data)]) == 0
    make_tokenizer().save(str(tokenizer))
    command = [sys.executable, "-m", "loadtests.training.cost", "--shapes", "tiny"]
    command += ["--data", str(data), "--work", str(tmp_path / "work"), "--json", str(file)]
    command += ["--tokenizer", str(tokenizer), "--methods", "p_tuning,lora"]
    command += ["--steps", "3", "--warmup", "1", "--set", "row_tokens=512"]
    # p_tuning refuses checkpointing.
    command += ["--set", "cutoff_len=512", "--set", "gradient_checkpointing=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    result = json.loads(file.read_text(encoding="utf-8"))
    failed, row = result["rows"]
    assert result["matrix_product_teraflops_per_second"] > 0
    assert "gradient_checkpointing drops the prefix" in failed["error"]
    assert "tokens_per_second" not in failed
    # Rank 8 on the seven matrices of each of two layers, as SHAPES has them.
    sizes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    assert row["trainable_parameters"] == 2 * 8 * sum(map(sum, sizes))
    assert row["saved_parameters"] == row["trainable_parameters"]
    assert row["saved_bytes"] > 4 * row["saved_parameters"]
    for name in ("peak_memory_bytes", "tokens_per_second", "samples_per_second", "utilisation"):
        assert row[name] > 0, name
    assert len(row["loss"]) == 3
    assert row["options"] == {"row_tokens": "512"}
    assert row["common"]["gradient_checkpointing"] == "true"
    assert "| lora | configs/lora.yaml, row_tokens=512 | 16,384 |" in done.stdout
    assert "| p_tuning | configs/p_tuning.yaml, row_tokens=512 | – |" in done.stdout
