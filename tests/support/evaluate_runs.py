"""Runs of `evaluate` on a base and a LoRA adapter."""

import json
from pathlib import Path
from typing import Any

from app.scoring.profile import COMPACT, Profile
from training.__main__ import main

PROFILE = Profile(layout=COMPACT, history=4, liked=1, disliked=1, no_think=True)
LIMIT = 10
QUICK = ["--bootstrap", "50", "--dtype", "float32", "--speed-seconds", "0", "--limit", str(LIMIT)]
ENGINE = {"dtype": "float32", "max_model_len": 1024, "kv_cache_memory_bytes": 1 << 28}


def evaluate(data: Path, models: Path, output: Path, *options: str) -> dict[str, Any]:
    """Both models, as the command does it."""
    named = [f"--model={name}={models / name}" for name in ("base", "tuned")]
    arguments = ["evaluate", "--data", str(data), *named, "--output", str(output), *options]
    assert main(arguments) == 0
    found: dict[str, Any] = json.loads((output / "evaluation.json").read_bytes())
    return found


def vllm_arguments(data: Path, models: Path, output: Path) -> list[str]:
    """The adapter, by vLLM in float32: for a process of its own, as the command runs."""
    places = ["--data", str(data), "--output", str(output), "--model", f"tuned={models / 'tuned'}"]
    backend = ["--backend", "vllm", "--text-pairs", "2", "--engine", json.dumps(ENGINE)]
    return ["-m", "training", "evaluate", *places, *backend, *QUICK]
