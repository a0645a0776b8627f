"""The folder of a training run: whose it is, where it goes on, and what to do when it is full."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from training.errors import TrainingError, first_line
from training.tuning.config import FinetuneConfig

MARK = "finetune.json"
"""What a run was started with: tells our folders from others, and a resumed run's options."""
STATE_FILE = "trainer_state.json"
FULL_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
FULL_DISK = ("PytorchStreamWriter", "I/O error")


def check_output(output: Path) -> None:
    """Raises TrainingError where `output` can't be written or holds something else."""
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        raise TrainingError(f"{output} holds something else (no {MARK}): give another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"can't write to {output}: {error.strerror}") from None


def open_output(output: Path, started: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint to go on from; None for a new run.

    Raises TrainingError for a resumed run with other options, data or base.
    """
    if not resume or not (output / MARK).is_file():
        return None
    before = json.loads((output / MARK).read_text(encoding="utf-8"))
    for name in sorted(before.keys() | started.keys()):
        if before.get(name) != started.get(name):
            raise TrainingError(
                f"{output} was started with {name} {before.get(name)}, not {started.get(name)}:"
                " resume with the same options, or start anew without --resume"
            )
    return last_checkpoint(output)


def begin(output: Path, started: dict[str, Any], checkpoint: Path | None) -> None:
    """Remove an earlier run's files, unless this one goes on from there, and sign the folder."""
    if checkpoint is None:
        for path in output.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (output / MARK).write_text(json.dumps(started, indent=1) + "\n", encoding="utf-8")


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint that is whole: its state is written last."""

    def step(folder: Path) -> int:
        return int(folder.name.rpartition("-")[2])

    for folder in sorted(output.glob("checkpoint-*"), key=step, reverse=True):
        try:
            json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return folder
    return None


@contextmanager
def explained(config: FinetuneConfig, output: Path) -> Iterator[None]:
    """Shortages of memory and disk as one line that says what to change."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError, SafetensorError) as error:
        text = str(error)
        if isinstance(error, MemoryError) or any(part in text for part in FULL_MEMORY):
            raise TrainingError(
                "out of memory: lower per_device_train_batch_size"
                f" ({config.per_device_train_batch_size}) or row_tokens ({config.row_tokens}), or"
                " set gradient_checkpointing: true, or method: qlora"
            ) from error
        if isinstance(error, OSError):
            raise TrainingError(f"{error.filename or output}: {error.strerror or error}") from error
        if any(part in text for part in FULL_DISK):
            raise TrainingError(f"can't write to {output}: {first_line(error)}") from error
        raise
