"""The log of a training run while it runs: lines for people, and trainer_log.jsonl."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.folders import LOG_FILE, write_whole
from training.progress import Progress

PRINTED_FIGURES = ("loss", "learning_rate", "eval_loss", "eval_auc", "eval_mass")


class RunLog(TrainerCallback):
    """Prints each log as one line with the time left, and appends it to trainer_log.jsonl under
    LLaMA-Factory's names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOG_FILE
        self.start = time.perf_counter()
        self.first_step = 0
        self.work = Progress("training")
        """Of the batches, for lines between those of `on_log`."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A resumed run continues from its checkpoint: lines of later steps are dropped."""
        self.start, self.first_step = time.perf_counter(), state.global_step
        steps = state.max_steps - state.global_step
        self.work.begin(steps * args.gradient_accumulation_steps, "batches")
        if state.is_world_process_zero:
            old = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            kept = [line for line in old.splitlines() if step_of(line) <= state.global_step]
            write_whole(self.file, "".join(line + "\n" for line in kept))

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.work.advance(1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.work.advance(1)

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
        self.work.said = time.perf_counter()
        figures = "  ".join(f"{name} {logs[name]:.4g}" for name in PRINTED_FIGURES if name in logs)
        step = f"step {state.global_step}/{state.max_steps}"
        print(f"{step}  {figures}  {line['remaining_time']} left", flush=True)


def step_of(line: str) -> float:
    """The step of a log's line; infinite for a line that a kill cut short."""
    try:
        return float(json.loads(line)["current_steps"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
