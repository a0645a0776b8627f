"""The folder of a training run: whose it is, where to resume, and what a shortage means."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from app.engine.fingerprint import is_fingerprint_of
from app.files import first_line
from training.errors import TrainingError
from training.folders import read_json, write_whole
from training.tuning.config import FinetuneConfig
from training.tuning.run_record import Origin

START_FILE = "finetune.json"
"""What a run was started with. It tells run folders from others, and a resumed run its options."""
STATE_FILE = "trainer_state.json"
"""Trainer's own state, which is the last file of a checkpoint to be written."""
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory")
DISK_FULL_TEXTS = ("PytorchStreamWriter", "I/O error")
"""What libraries write in errors that have no type of their own."""


def check_output(output: Path) -> None:
    """Raise TrainingError if `output` can't be written or holds something else."""
    if output.is_dir() and any(output.iterdir()) and not (output / START_FILE).is_file():
        raise TrainingError(
            f"{output} holds something else (no {START_FILE}): choose another --output"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(f"can't write to {output}: {error.strerror}") from None


def describe_start(config: FinetuneConfig, origin: Origin) -> dict[str, Any]:
    """finetune.json: each option of the run by name, and what it starts from."""
    return describe_options(config) | asdict(origin)


def describe_options(config: FinetuneConfig) -> dict[str, Any]:
    """Each option by name, as JSON has it."""
    options: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return options


def open_output(output: Path, started: Mapping[str, Any], base: Path, resume: bool) -> Path | None:
    """The checkpoint to continue from; None for a new run. An option that the run's version did not
    have counts with its default.

    Raises TrainingError if a resumed run was started with other options, data or base.
    """
    if not resume or not (output / START_FILE).is_file():
        return None
    written = read_json(output / START_FILE)
    before = describe_options(FinetuneConfig()) | written
    for name in sorted(written.keys() | started.keys()):
        is_same = before.get(name) == started.get(name)
        if name == "base_fingerprint" and not is_same:  # one of an earlier version, perhaps
            is_same = is_fingerprint_of(base, str(before.get(name)))
        if not is_same:
            raise TrainingError(
                f"{output} was started with {name} {before.get(name)}, not {started.get(name)}:"
                " resume with the same options, or start over without --resume"
            )
    return last_checkpoint(output)


def begin(output: Path, started: Mapping[str, Any], checkpoint: Path | None) -> None:
    """Remove an earlier run's files, unless this one continues from there, and sign the folder.

    The earlier run's START_FILE stays until ours replaces it: killed at any point, this still
    leaves a folder that the next run recognizes as its own. Raises OSError and TrainingError.
    """
    if checkpoint is None:
        for path in output.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != START_FILE:
                path.unlink()
    write_whole(output / START_FILE, json.dumps(started, indent=1) + "\n")


def last_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint: one that holds STATE_FILE."""

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
    """Turn a shortage of memory or disk into a TrainingError that says what to change."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError, SafetensorError) as error:
        text = str(error)
        if isinstance(error, MemoryError) or any(part in text for part in OUT_OF_MEMORY_TEXTS):
            raise TrainingError(
                "out of memory: lower per_device_train_batch_size"
                f" ({config.per_device_train_batch_size}) or row_tokens ({config.row_tokens}), or"
                " set gradient_checkpointing: true, or method: qlora"
            ) from error
        if isinstance(error, OSError):
            raise TrainingError(f"{error.filename or output}: {error.strerror or error}") from error
        if any(part in text for part in DISK_FULL_TEXTS):
            raise TrainingError(f"can't write to {output}: {first_line(error)}") from error
        raise
