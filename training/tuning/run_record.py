"""What a training run was: log lines while it runs, and run.json and a picture at its end."""

import json
import platform
import resource
import time
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.folders import LOG_FILE
from training.provenance import commit, processor
from training.tuning.config import FinetuneConfig

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")
PRINTED = ("loss", "learning_rate", "eval_loss", "eval_auc", "eval_mass")


class RunLog(TrainerCallback):
    """Prints each log as one line with the time left, and appends it to trainer_log.jsonl under
    LLaMA-Factory's names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOG_FILE
        self.start = time.perf_counter()
        self.first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A resumed run goes on where its checkpoint was: later lines are dropped."""
        self.start, self.first_step = time.perf_counter(), state.global_step
        if state.is_world_process_zero:
            old = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            kept = [line for line in old.splitlines() if step_of(line) <= state.global_step]
            self.file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        elapsed = time.perf_counter() - self.start
        done = max(state.global_step - self.first_step, 1)
        left = elapsed / done * (state.max_steps - state.global_step)
        line = {
            "current_steps": state.global_step,
            "total_steps": state.max_steps,
            "epoch": round(state.epoch or 0.0, 4),
            "percentage": round(100 * state.global_step / max(state.max_steps, 1), 2),
            "elapsed_time": str(timedelta(seconds=round(elapsed))),
            "remaining_time": str(timedelta(seconds=round(left))),
            **{"lr" if name == "learning_rate" else name: value for name, value in logs.items()},
        }
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        figures = "  ".join(f"{name} {logs[name]:.4g}" for name in PRINTED if name in logs)
        step = f"step {state.global_step}/{state.max_steps}"
        print(f"{step}  {figures}  {line['remaining_time']} left", flush=True)


def step_of(line: str) -> float:
    """A log line's step; infinite for a line that a kill cut short."""
    try:
        return float(json.loads(line)["current_steps"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def plot_loss(history: list[dict[str, Any]], file: Path) -> None:
    """Training loss and validation figures by step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    twin = axes.twinx()
    twin.set_ylabel("AUC by impression")
    for name, where, style in (
        ("loss", axes, "C0-"),
        ("eval_loss", axes, "C1o-"),
        ("eval_auc", twin, "C2s--"),
    ):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        if points:
            where.plot(*zip(*points, strict=True), style, label=name)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(file, dpi=120)


def describe_run(config: FinetuneConfig, known: dict[str, Any]) -> dict[str, Any]:
    """known: what the run itself found; added are configuration, versions, commit, hardware."""
    return {
        **known,
        "seed": config.seed,
        "config": asdict(config),
        "commit": commit(),
        "versions": {"python": platform.python_version()} | versions(),
        "hardware": hardware(),
        "peak_memory_bytes": peak_memory(),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else processor(),
        "gpus": torch.cuda.device_count(),
        "processes": torch.distributed.get_world_size()
        if torch.distributed.is_initialized()
        else 1,
        "threads": torch.get_num_threads(),
    }


def peak_memory() -> int:
    """Of the GPU where there is one, else of this process; bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
